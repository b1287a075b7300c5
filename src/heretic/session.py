"""Session: a finished (or interrupted) search and what can be done with its trials.

The picker and the automatic choice both work through this, so that they do the same things.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from torch import Tensor

from heretic.checks.capability import wants_validation
from heretic.checks.further_checks import FurtherChecks
from heretic.checks.held_out_front import spread
from heretic.common.errors import (
    ExportError,
    StudyError,
    TrialFailed,
    UserError,
)
from heretic.config.sections.search import is_open
from heretic.editors.blend import WeightBlend, edited_weights
from heretic.editors.editor import applied
from heretic.export.content import ExportFormat, SavedModel
from heretic.export.hub import upload_folder
from heretic.export.manifest import read_manifest
from heretic.observability.events import (
    FrontChecked,
    ModelSaved,
    ReportWritten,
    TrialApplied,
    Warned,
    emit,
)
from heretic.observability.steps import step
from heretic.passes.conversing import own_sampling, stream_text
from heretic.passes.runner import ModelRunner
from heretic.report.collect import report_data
from heretic.report.words import sampled_sentence
from heretic.report.write import report_folder, write_report
from heretic.results.capability import Capability
from heretic.results.front import chosen_automatically, pareto_front
from heretic.results.held_out import Example, HeldOut
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord
from heretic.run.applied import AppliedTrial, check_reading, measured_in_weights, usable
from heretic.run.kept_checks import KeptTrials
from heretic.run.saving import Saver
from heretic.run.warm_start import remember
from heretic.run.workbench import Workbench
from heretic.search.deadline import Deadline
from heretic.search.heartbeat import Heartbeat
from heretic.search.loop import SearchResult, search
from heretic.search.records import stored_records
from heretic.search.storage import storage_errors
from heretic.search.workers import Workers
from heretic.workers.cluster import crew_of
from heretic.workers.placement import ALONE, Placement

CHAT_TOKENS = 1024
"""Longest answer in a chat."""


class Session:
    """A workbench with its study; at most one trial is applied at a time."""

    def __init__(
        self,
        bench: Workbench,
        study: optuna.Study,
        heartbeat: Heartbeat | None = None,
        deadline: Deadline | None = None,
        workers: Workers | None = None,
        placement: Placement = ALONE,
        kept: KeptTrials | None = None,
    ) -> None:
        self.bench = bench
        self._study = study
        self._heartbeat = heartbeat
        self._deadline = deadline
        self._workers = workers
        self._placement = placement
        self._n_trials = bench.settings.wanted_trials
        self.result = SearchResult((), False)
        self._applied: AppliedTrial | None = None
        self._kept = kept
        known = {} if kept is None else kept.known
        # By trial number: scores in the weights, measured to the end.
        self._rescored = {number: trial.scores for number, trial in known.items() if trial.scores is not None}
        self._checks = FurtherChecks(bench, {number: trial.checked for number, trial in known.items()})
        self._saver = Saver(bench)

    def recall(self) -> None:
        """Take the trials as they are stored; nothing is measured."""
        with storage_errors(self.bench.settings.storage):
            self.result = SearchResult(tuple(stored_records(self._study)), False)
        self._n_trials = self.result.complete

    @property
    def study(self) -> str:
        """Name of the study."""
        return self._study.study_name

    def saved(self) -> dict[int, tuple[str, ...]]:
        """Folders that trials were saved to, by number."""
        known = {} if self._kept is None else self._kept.known
        return {number: trial.saved for number, trial in known.items() if trial.saved}

    def _keep(self, saved: str | None = None) -> None:
        """Store with the study what is known of the applied trial, which nobody then measures again."""
        if self._kept is not None:
            trial = self.applied
            self._kept.keep(trial.record.number, trial.scores, self._checks.checked(trial.record.number), saved)

    def search(self, additional: int = 0) -> SearchResult:
        """Run the trials that are still missing, and so many more."""
        self.restore()
        deadline = self._deadline
        if additional:
            # A person who asks for more has the time.
            before = 0 if is_open(self._n_trials) else self._n_trials
            self._n_trials, deadline = max(before, self.result.complete) + additional, None
        storage = self.bench.settings.storage
        bench = self.bench
        with crew_of(bench, self._placement) as crew:
            self.result = search(
                self._study,
                storage,
                bench.space,
                crew,
                self._n_trials,
                bench.objective,
                self._heartbeat,
                deadline,
                self._workers,
            )
        if not self.result.interrupted:
            self.check_front()
            remember(bench, self.result.records)
        return self.result

    def check_front(self) -> None:
        """Measure the ends of the front again in the weights, to the end. Emits FrontChecked for each.

        The engine that searched is fast because it does neither; this is what shows should it ever be wrong. Whether
        the way of reading still agrees with ordinary passes is looked at on a sample.
        """
        bench, front = self.bench, self.front
        if bench.engine.is_reference:
            return
        ends = {record.number: record for record in (front[:1] + front[-1:])}
        with step("checking the front"):
            for record in ends.values():
                if record.number not in self._rescored:
                    self._check(record)

    def _check(self, record: TrialRecord) -> None:
        bench = self.bench
        try:
            with usable(bench.loaded, record):
                bench.engine.remember_reference()
                with applied(bench.editor, bench.edits(record.plan)):
                    scores = measured_in_weights(bench.engine.reference, record)
                    check_reading(bench, record)
        except TrialFailed as error:
            emit(Warned(str(error)))
            return
        self._rescored[record.number] = scores
        emit(FrontChecked(record, scores))

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
        objective = self.bench.objective
        value = (lambda record: objective.values(record.measured)[0]) if objective.count == 1 else None
        return chosen_automatically(self.result.records, value)

    def apply(self, record: TrialRecord) -> Scores:
        """Put a trial into the model and measure it again there; it stays until `restore`.

        Raises:
            TrialFailed: The edited model cannot be measured.
        """
        # Edits are built from original weights: without a cache, asking for them while others are applied reloads.
        self.restore()
        bench = self.bench
        rescored = self._rescored.get(record.number)
        try:
            with step(f"applying trial {record.shown}"), usable(bench.loaded, record):
                edits = bench.edits(record.plan)
                if rescored is None:
                    bench.engine.remember_reference()
                bench.editor.apply(edits)
                scores = rescored or measured_in_weights(bench.engine.reference, record)
        except TrialFailed:
            self.restore()
            raise
        self._rescored[record.number] = scores
        emit(TrialApplied(record, scores))
        self._applied = AppliedTrial(record, edits, scores)
        return scores

    def confirm(self) -> HeldOut | None:
        """See FurtherChecks.confirm, of the applied trial."""
        trial = self.applied
        self.bench.rest()
        with step("confirming"):
            held_out = self._checks.confirm(trial.record.number, trial.edits, trial.scores)
        self._keep()
        return held_out

    def confirm_front(self) -> None:
        """Measure the front on held-out prompts as the search does, what is not known of it; none is applied after.

        Of a long front a part, see `held_out_front.spread`. Emits FrontHeldOut.
        """
        self.restore()
        self.bench.rest()
        records = self._confirmable
        with step("measuring the front on held-out prompts"):
            self._checks.confirm_front(records)
        if self._kept is not None:
            for number in (record.number for record in records):
                self._kept.keep(number, self._rescored.get(number), self._checks.checked(number))

    @property
    def front_can_be_confirmed(self) -> bool:
        """Whether anything is left to `confirm_front`."""
        unknown = [each for each in self._confirmable if self._checks.checked(each.number).held_out_scores is None]
        return self.bench.settings.confirm and bool(unknown)

    @property
    def _confirmable(self) -> list[TrialRecord]:
        return spread(self.front, self.suggested if self.front else None)

    def validate(self, benchmarks: Sequence[str] | None = None) -> Capability | None:
        """See FurtherChecks.validate, of the applied trial."""
        trial = self.applied
        self.bench.rest()
        with step("measuring what it is able to do"):
            capability = self._checks.validate(trial.record.number, trial.edits, benchmarks)
        self._keep()
        return capability

    @property
    def examples(self) -> tuple[Example, ...]:
        """Held-out prompts with both models' answers; none where the applied trial is not confirmed."""
        return self._checks.checked(self.applied.record.number).examples

    @property
    def wants_validation(self) -> bool:
        """Whether the settings ask what the applied trial is able to do, and it was not measured before."""
        measured = self._checks.checked(self.applied.record.number).capability is not None
        return wants_validation(self.bench.settings) and not measured

    def check(self) -> None:
        """All that is measured of the applied trial before it is saved: on held-out prompts, and ability if asked."""
        self.confirm()
        if self.wants_validation:
            self.validate()

    def confirmed(self) -> dict[int, HeldOut | Scores]:
        """See FurtherChecks.confirmed."""
        return self._checks.confirmed()

    def weights(self, record: TrialRecord) -> dict[str, Tensor]:
        """See `editors.blend.edited_weights`, of a trial; none is applied afterwards."""
        self.restore()
        bench = self.bench
        # The weights themselves are to be there, whatever form trials were measured in.
        bench.rest()
        return edited_weights(bench.loaded.model, bench.editor, bench.edits(record.plan))

    def restore(self) -> None:
        """Make the model unedited again."""
        self.bench.editor.restore()
        self._applied = None

    @property
    def applied(self) -> AppliedTrial:
        """The applied trial.

        Raises:
            RuntimeError: No trial is applied.
        """
        if self._applied is None:
            raise RuntimeError("no trial is applied")
        return self._applied

    def adapter_obstacle(self) -> str | None:
        """Why the applied trial cannot be saved as an adapter, or None where it can."""
        return self._saver.adapter_obstacle(self.applied)

    def save(self, folder: Path, export_format: ExportFormat) -> SavedModel:
        """Save the applied trial; the folder appears under its name only when it is whole. Emits ModelSaved.

        Raises:
            UserError: The folder cannot be used, or the edit cannot be an adapter.
            ExportError: It could not be saved; nothing was left behind.
        """
        trial = self.applied
        self.bench.rest()
        with step("saving"):
            saved = self._saver.save(trial, folder, export_format, self._checks.checked(trial.record.number))
        self._keep(str(saved.path))
        emit(ModelSaved(str(saved.path), saved.file_count, saved.bytes, export_format.value, saved.verified_answers))
        if self.bench.settings.report:
            self.report(saved.path)
        return saved

    def report(self, saved: Path) -> Path | None:
        """Write a report beside a saved folder. Emits ReportWritten; None, with a warning, where that fails."""
        try:
            with step("writing the report"), storage_errors(self.bench.settings.storage):
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
        emit(ReportWritten(str(page), sampled_sentence(data)))
        return page

    def publish(self, repository: str, private: bool, export_format: ExportFormat) -> str:
        """See Saver.publish, of the applied trial."""
        trial = self.applied
        self.bench.rest()
        with step("publishing"):
            return self._saver.publish(
                trial, repository, private, export_format, self._checks.checked(trial.record.number)
            )

    def upload(self, folder: Path, repository: str, private: bool) -> str:
        """Upload a saved folder; returns its address on the hub."""
        with step("publishing"):
            return upload_folder(folder, repository, private)

    @contextmanager
    def talking(self) -> "Iterator[Talk]":
        """Answers of the applied trial at any strength, the original's too, from one model in memory."""
        bench, trial = self.bench, self.applied
        if bench.loaded.quantization != "none" or bench.settings.compile:
            reason = "the weights are quantised" if bench.loaded.quantization != "none" else "the model is compiled"
            yield Talk(bench.runner, None, reason)
            return
        blend = WeightBlend(bench.loaded.model, self.weights(trial.record))
        try:
            yield Talk(bench.runner, blend)
        finally:
            blend.restore()
            bench.editor.apply(trial.edits)
            self._applied = trial


class Talk:
    """Who answers in a chat.

    Attributes:
        obstacle: Why only the edited model answers; empty where any strength does.
    """

    def __init__(self, runner: ModelRunner, blend: WeightBlend | None, obstacle: str = "") -> None:
        self._runner, self._blend, self.obstacle = runner, blend, obstacle
        self._answers = 0

    def __call__(self, messages: list[dict[str, str]], strength: float) -> Iterator[str]:
        """The answer to a conversation by the edit at this strength, piece by piece; each draws anew."""
        runner = self._runner
        text = runner.formatter.render_messages(messages) + runner.calibration.response_prefix
        if self._blend is not None:
            self._blend.use([strength])
        self._answers += 1
        return stream_text(runner, runner.encode_rendered(text), own_sampling(runner, CHAT_TOKENS, self._answers))
