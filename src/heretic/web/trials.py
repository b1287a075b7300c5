"""The trials of a study on the page: one answers beside the original, and can be saved as from the menu."""

from collections.abc import Iterator
from pathlib import Path

from heretic.common.errors import UserError
from heretic.common.file_names import free_name, safe_name
from heretic.editors.blend import WeightBlend
from heretic.export.content import ExportFormat, serving_command
from heretic.models.location import edited_name
from heretic.results.trial import TrialRecord
from heretic.results.words import title
from heretic.session import Session
from heretic.web.errors import ModelInvalidError, ModelNotFoundError
from heretic.web.front import picture


class StudyTrials:
    """The front of a session's study.

    Attributes:
        session: Has the model, which stays in memory.
    """

    def __init__(self, session: Session) -> None:
        """Take the trials of a session.

        Raises:
            UserError: They cannot answer beside the original.
        """
        bench = session.bench
        if bench.loaded.quantization != "none":
            raise UserError(
                "The page compares weights, which quantised ones hide; save a trial and open its folder with "
                "'heretic chat FOLDER --compare'."
            )
        if bench.settings.compile:
            raise UserError(
                "The page changes weights between answers, which a compiled model hides; leave --compile out."
            )
        self.session = session

    @property
    def front(self) -> list[TrialRecord]:
        """The trials that can be chosen."""
        return self.session.front

    @property
    def suggested(self) -> int | None:
        """Number of the trial that would be chosen automatically; None where there is none."""
        return self.session.suggested.number if self.front else None

    @property
    def behavior(self) -> str:
        """What was edited, as a manifest has it."""
        return ",".join(self.session.bench.settings.behavior)

    @property
    def goal(self) -> str:
        """See EditSection."""
        return self.session.bench.settings.goal

    @property
    def free_name(self) -> str:
        """A folder's name that is not in use here."""
        return free_name(edited_name(self.session.bench.loaded.name))

    def picture(self, chosen: int | None) -> str:
        """The front as HTML, with every other trial that was measured to its end as a dot."""
        front = self.front
        on_front = {record.number for record in front}
        measured = [each for each in self.session.result.records if each.state.outcome == "complete"]
        return picture(front, [each for each in measured if each.number not in on_front], chosen)

    def record(self, number: object) -> TrialRecord:
        """A trial of the front by its number, which came from a browser.

        Raises:
            ModelNotFoundError: It is not on the front.
        """
        record = next((record for record in self.front if record.number == number), None)
        if record is None:
            raise ModelNotFoundError("That trial is not on the front; choose one of the picture.")
        return record

    def blend(self, record: TrialRecord) -> WeightBlend:
        """The trial's weights beside the model's own."""
        return WeightBlend(self.session.bench.loaded.model, self.session.weights(record))

    def save(self, record: TrialRecord, name: str, as_adapter: bool) -> Iterator[str]:
        """Measure a trial on held-out prompts and save it, in a folder beside the study; sentences of how far that is.

        Args:
            record: The trial.
            name: Of the folder; other paths belong to whoever has a terminal.
            as_adapter: Whether an adapter is written instead of the whole model.

        Raises:
            ModelInvalidError: The name leads elsewhere.
            HereticError: See `Session.save`.
        """
        name = name.strip()
        if safe_name(name) != name:
            raise ModelInvalidError(f"Write the name of a new folder, such as {self.free_name}.")
        session = self.session
        yield f"{title(record)}: measured again in the weights."
        try:
            session.apply(record)
            yield f"{title(record)}: measured on held-out prompts."
            session.check()
            yield f"{title(record)}: written to {name} and read again."
            saved = session.save(Path(name), ExportFormat.ADAPTER if as_adapter else ExportFormat.MERGED)
        finally:
            session.restore()
        served = "" if as_adapter else f" {serving_command(name)} serves it to other programs."
        yield f"{title(record)} is saved in {name} ({saved.file_count} files, {saved.bytes / 1e6:.1f} MB).{served}"
