"""Session: a finished (or interrupted) search and what can be done with its trials.

The picker and the automatic choice both work through this, so that they do the same things.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import optuna

from heretic.checks.capability import CapabilityResult
from heretic.checks.further_checks import FurtherChecks
from heretic.common.errors import (
    ExportError,
    HereticError,
    OutOfMemoryError,
    StudyError,
    TrialFailed,
    UserError,
)
from heretic.editors.adapter import adapter_factors, adapter_obstacle
from heretic.editors.editor import applied
from heretic.edits.algebra import Edit
from heretic.engine.engine import Jobs
from heretic.engine.factory import reference_jobs
from heretic.export.atomic import check_free_space, check_target
from heretic.export.content import ExportContent, ExportFormat, SavedModel
from heretic.export.hub import check_repository, upload_folder
from heretic.export.manifest import read_manifest
from heretic.export.verify import Verification
from heretic.export.weights import model_bytes, save_model
from heretic.models.devices import is_out_of_memory
from heretic.models.memory import memory_ran_out
from heretic.observability.events import (
    FrontChecked,
    FullPrecisionMeasured,
    FullPrecisionNeeded,
    ModelSaved,
    ReportWritten,
    TrialApplied,
    Warned,
    emit,
)
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.streaming import stream_answer
from heretic.report.collect import report_data
from heretic.report.write import report_folder, write_report
from heretic.results.front import knee, pareto_front
from heretic.results.held_out import Example, HeldOut
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord
from heretic.run.measuring import make_evaluators
from heretic.run.warm_start import remember
from heretic.run.workbench import Workbench, full_precision
from heretic.search.heartbeat import Heartbeat
from heretic.search.loop import SearchResult, search
from heretic.search.storage import storage_errors

CHAT_TOKENS = 1024
"""Longest answer in a chat."""
VERIFIED_PROMPTS = 8
"""Answers of a saved folder that are compared with the edited model's."""


class Session:
    """A workbench with its study; at most one trial is applied at a time."""

    def __init__(self, bench: Workbench, study: optuna.Study) -> None:
        self.bench = bench
        self._study = study
        self._n_trials = bench.settings.n_trials
        self.result = SearchResult((), False)
        self._edits: tuple[Edit, ...] = ()
        self._applied: tuple[TrialRecord, Scores] | None = None
        # By trial number: scores in the weights, by ordinary passes.
        self._rescored: dict[int, Scores] = {}
        self._checks = FurtherChecks(bench)
        # By trial number: scores of the weights that are saved, where the search ran on quantised ones.
        self._full_precision_scores: dict[int, Scores] = {}

    def search(self, additional: int = 0) -> SearchResult:
        """Run the trials that are still missing, and so many more."""
        self.restore()
        if additional:
            self._n_trials = max(self._n_trials, self.result.complete) + additional
        storage = self.bench.settings.storage
        batch_size = self.bench.runner.calibration.batch_size
        bench = self.bench
        slower = tuple(map(str, bench.engine.slower))
        heartbeat = Heartbeat(self._study, bench.loaded.name, batch_size, self._n_trials, slower)
        self.result = search(
            self._study, storage, bench.space, bench.engine, self._n_trials, bench.objective, heartbeat
        )
        if not self.result.interrupted:
            self.check_front()
            remember(bench, self.result.records)
        return self.result

    def check_front(self) -> None:
        """Measure the ends of the front again in the weights, by ordinary passes. Emits FrontChecked for each.

        The engine that searched is fast because it does neither; this is what shows should it ever be wrong.
        """
        bench, front = self.bench, self.front
        if bench.engine.is_reference:
            return
        ends = {record.number: record for record in (front[:1] + front[-1:])}
        for record in ends.values():
            if record.number in self._rescored:
                continue
            try:
                with _sentences(bench, record):
                    bench.engine.reference.remember()
                    with applied(bench.editor, bench.edits(record.plan)):
                        scores = _measured(bench.engine.reference, record)
            except TrialFailed as error:
                emit(Warned(str(error)))
                continue
            self._rescored[record.number] = scores
            emit(FrontChecked(record.number, scores, record.measured))

    @property
    def front(self) -> list[TrialRecord]:
        """The Pareto front, least of the (first) behaviour first."""
        return pareto_front(self.result.records)

    @property
    def suggested(self) -> TrialRecord:
        """The automatic choice: the knee of the front, or the best where one number is minimised.

        Raises:
            SelectionError: No trial is complete.
        """
        objective, front = self.bench.objective, self.front
        if objective.count == 1 and front:
            return min(front, key=lambda record: objective.values(record.measured))
        return knee(front)

    def apply(self, record: TrialRecord) -> Scores:
        """Put a trial into the model and measure it again there; it stays until `restore`.

        Raises:
            TrialFailed: The edited model cannot be measured.
        """
        # Edits are built from unedited weights: without a cache, asking for them while others are applied reloads.
        self.restore()
        bench = self.bench
        known = self._rescored.get(record.number)
        try:
            with _sentences(bench, record):
                edits = bench.edits(record.plan)
                if known is None:
                    bench.engine.reference.remember()
                bench.editor.apply(edits)
                self._edits = edits
                scores = known or _measured(bench.engine.reference, record)
        except TrialFailed:
            self.restore()
            raise
        self._rescored[record.number] = scores
        emit(TrialApplied(record.number, scores, record.measured))
        self._applied = (record, scores)
        return scores

    def confirm(self) -> HeldOut | None:
        """See FurtherChecks.confirm, of the applied trial."""
        record, scores = self.applied
        return self._checks.confirm(record.number, self._edits, scores)

    def validate(self, benchmarks: Sequence[str] | None = None) -> CapabilityResult | None:
        """See FurtherChecks.validate, of the applied trial."""
        record, _scores = self.applied
        return self._checks.validate(record.number, self._edits, benchmarks)

    @property
    def examples(self) -> tuple[Example, ...]:
        """Held-out prompts with both models' answers; none where the applied trial is not confirmed."""
        record, _scores = self.applied
        return self._checks.found(record.number).examples

    @property
    def capability_known(self) -> bool:
        """Whether it was measured what the applied trial is able to do."""
        record, _scores = self.applied
        return self._checks.found(record.number).capability is not None

    def confirmed(self) -> dict[int, HeldOut]:
        """What held-out prompts showed, by the number of the trial."""
        return self._checks.confirmed()

    def restore(self) -> None:
        """Make the model unedited again."""
        self.bench.editor.restore()
        self._applied = None
        self._edits = ()

    @property
    def applied(self) -> tuple[TrialRecord, Scores]:
        """The applied trial and its scores in the weights (behaviours, KL).

        Raises:
            RuntimeError: No trial is applied.
        """
        if self._applied is None:
            raise RuntimeError("no trial is applied")
        return self._applied

    def adapter_obstacle(self) -> str | None:
        """Why the applied trial cannot be saved as an adapter, or None where it can."""
        if self.bench.loaded.name.lower().endswith(".gguf"):
            return "PEFT cannot load a GGUF file as the base model"
        return adapter_obstacle(self._edits)

    def save(self, folder: Path, export_format: ExportFormat) -> SavedModel:
        """Save the applied trial; the folder appears under its name only when it is whole. Emits ModelSaved.

        Raises:
            UserError: The folder cannot be used, or the edit cannot be an adapter.
            ExportError: It could not be saved; nothing was left behind.
        """
        saved = self._write(folder, export_format)
        emit(ModelSaved(str(saved.path), saved.file_count, saved.bytes, export_format.value, saved.verified_answers))
        if self.bench.settings.report:
            self.report(saved.path)
        return saved

    def report(self, saved: Path) -> Path | None:
        """Write a report beside a saved folder. Emits ReportWritten; None, with a warning, where that fails."""
        try:
            with storage_errors(self.bench.settings.storage):
                data = report_data(
                    read_manifest(saved).to_json(),
                    self.result.records,
                    self._study,
                    self.examples,
                    quality=self.bench.directions.quality.tolist(),
                )
            page = write_report(report_folder(saved), data)
        except (ExportError, StudyError, UserError) as error:
            emit(Warned(f"The model is saved, but its report is not: {error}"))
            return None
        emit(ReportWritten(str(page)))
        return page

    def publish(self, repository: str, private: bool, export_format: ExportFormat) -> str:
        """Upload the applied trial by way of a temporary folder; returns its address on the hub. Emits ModelUploaded.

        Raises:
            UserError: The repository or the temporary folder cannot be used, or the edit cannot be an adapter.
            ExportError: It could not be written or uploaded; nothing was left behind on this machine.
        """
        check_repository(repository)
        try:
            scratch = TemporaryDirectory(prefix="heretic-upload-", ignore_cleanup_errors=True)
        except OSError as error:
            raise ExportError(
                f"There is no temporary folder to prepare the upload in ({error.strerror}); set TMPDIR to a folder."
            ) from error
        with scratch:
            folder = Path(scratch.name) / "model"
            try:
                self._write(folder, export_format, for_upload=True)
            except HereticError as error:
                if Path(scratch.name).name not in str(error):
                    raise
                raise type(error)(
                    f"{error} (An upload is prepared in the temporary folder {gettempdir()}; TMPDIR names another.)"
                ) from error
            return self.upload(folder, repository, private)

    def _write(self, folder: Path, export_format: ExportFormat, for_upload: bool = False) -> SavedModel:
        """Write the applied trial to a new folder; see `save`."""
        record, scores = self.applied
        adapter = export_format is ExportFormat.ADAPTER
        obstacle = self.adapter_obstacle() if adapter else None
        if obstacle is not None:
            raise UserError(f"This edit cannot be saved as an adapter ({obstacle}); save the merged model.")
        # Before a quantised model is loaded again and measured, which takes minutes.
        target = check_target(folder)
        bench, edits = self.bench, self._edits
        quantization = bench.loaded.quantization
        saved_scores = scores
        if quantization != "none":
            emit(FullPrecisionNeeded(quantization, record.number in self._full_precision_scores))
            bench = full_precision(bench)
            if not adapter:
                check_free_space(target, model_bytes(bench.loaded.model))
            edits, saved_scores = self._applied_in_full_precision(bench)
        factors = adapter_factors(edits, bench.editor) if adapter else None
        texts = tuple(map(bench.runner.render, bench.prompts.bad_evaluation.prompts[:VERIFIED_PROMPTS]))
        further = self._checks.found(record.number)
        content = ExportContent(
            behaviors=tuple(own.pack.name for own in bench.prompts.behaviors),
            plan=record.plan,
            scores=saved_scores,
            settings=self.bench.settings.model_dump(mode="json"),
            direction_method=bench.directions.method,
            direction_provenance=bench.directions.provenance,
            adjustments=bench.adjustments.notes,
            trial=record.number,
            search_quantization=quantization,
            search_scores=None if quantization == "none" else scores,
            goal=bench.settings.goal,
            held_out=further.held_out,
            capability=further.capability,
            descriptions=tuple(own.pack.card for own in bench.prompts.behaviors),
        )
        return save_model(
            bench.loaded,
            folder,
            content,
            factors=factors,
            verification=Verification(texts, bench.runner.formatter.add_special_tokens),
            max_shard_size=bench.settings.max_shard_size,
            for_upload=for_upload,
        )

    def _applied_in_full_precision(self, bench: Workbench) -> tuple[tuple[Edit, ...], Scores]:
        """Put the applied trial into the weights of a full-precision workbench, and measure it there.

        The model card speaks of the saved weights, so neither the scores nor the KL's base may come from the quantised
        ones that the search ran on.

        Raises:
            ExportError: The edited weights cannot be measured.
        """
        record, searched = self.applied
        known = self._full_precision_scores.get(record.number)
        edits = bench.edits(record.plan)
        if known is not None:
            bench.editor.apply(edits)
            return edits, known
        # While the weights are unedited.
        passes = OrdinaryPasses(bench.runner)
        behaviors, kl = make_evaluators(bench.settings, passes, bench.prompts, bench.readers)
        reference = reference_jobs(passes.runner, behaviors, kl)
        reference.remember()
        bench.editor.apply(edits)
        try:
            with _sentences(bench, record):
                scores = _measured(reference, record)
        except TrialFailed as error:
            raise ExportError(f"{error} It was measured in full precision; nothing was saved.") from error
        self._full_precision_scores[record.number] = scores
        emit(FullPrecisionMeasured(self.bench.loaded.quantization, scores, searched))
        return edits, scores

    def upload(self, folder: Path, repository: str, private: bool) -> str:
        """Upload a saved folder; returns its address on the hub."""
        return upload_folder(folder, repository, private)

    def stream(self, messages: list[dict[str, str]]) -> Iterator[str]:
        """The model's answer to a conversation, piece by piece."""
        runner = self.bench.runner
        text = runner.formatter.render_messages(messages) + runner.calibration.response_prefix
        loaded = runner.loaded
        return stream_answer(loaded.model, loaded.tokenizer, text, CHAT_TOKENS, runner.formatter.add_special_tokens)


def _measured(reference: Jobs, record: TrialRecord) -> Scores:
    """Behaviours and KL of the trial that is applied."""
    return reference.present_scores(record.number, f"measuring trial {record.number + 1} in the weights")


@contextmanager
def _sentences(bench: Workbench, record: TrialRecord) -> Iterator[None]:
    """Put what goes wrong while a trial is brought into the weights and measured there into a sentence.

    Raises:
        TrialFailed: It cannot be used.
    """
    number = record.number + 1  # as people are shown it
    try:
        yield
        return
    except TrialFailed as error:
        raise TrialFailed(f"Trial {number} cannot be used because {error}; choose another one.") from error
    except (OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    used = memory_ran_out(bench.loaded.device, f"measuring trial {number} in the weights").used
    raise TrialFailed(
        f"Memory ran out while trial {number} was brought into the weights and measured ({used}); end other programs "
        "that use it and run the same command again, which goes on with the study, or choose another trial."
    )
