"""Session: a finished (or interrupted) search and what can be done with its trials.

The picker and the automatic choice both work through this, so that they do the same things.
"""

from collections.abc import Iterator
from pathlib import Path

import optuna

from heretic.edits.adapter import adapter_factors, adapter_obstacle
from heretic.edits.algebra import Edit
from heretic.errors import TrialFailed
from heretic.evaluation.score import Score
from heretic.export.content import ExportContent, ExportFormat, SavedModel
from heretic.export.hub import upload_folder
from heretic.export.verify import Verification
from heretic.export.weights import save_model
from heretic.models.streaming import stream_answer
from heretic.observability.events import TrialApplied, emit
from heretic.search.loop import SearchResult, search
from heretic.search.pareto import knee, pareto_front
from heretic.search.record import TrialRecord
from heretic.workbench import Workbench, full_precision

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
        self._applied: tuple[TrialRecord, tuple[Score, ...]] | None = None

    def search(self, additional: int = 0) -> SearchResult:
        """Run the trials that are still missing, and so many more."""
        self.restore()
        if additional:
            self._n_trials = max(self._n_trials, self.result.complete) + additional
        bench = self.bench
        self.result = search(self._study, bench.settings.storage, bench.space, bench.measure, self._n_trials)
        return self.result

    @property
    def front(self) -> list[TrialRecord]:
        """The Pareto front, fewest refusals first."""
        return pareto_front(self.result.records)

    @property
    def suggested(self) -> TrialRecord:
        """The automatic choice.

        Raises:
            SelectionError: No trial is complete.
        """
        return knee(self.result.records)

    def apply(self, record: TrialRecord) -> tuple[Score, ...]:
        """Put a trial into the model and measure it again there; it stays until `restore`.

        Raises:
            TrialFailed: The edited model cannot be measured.
        """
        # Edits are built from unedited weights: without a cache, asking for them while others are applied reloads.
        self.restore()
        bench = self.bench
        edits = bench.edits(record.plan)
        bench.editor.apply(edits)
        self._edits = edits
        try:
            refusals, kl = bench.refusals.score(record.number), bench.kl.score(record.number)
        except TrialFailed:
            self.restore()
            raise
        searched = record.score("refusals").value, record.score("kl").value
        emit(TrialApplied(record.number, int(refusals.value), refusals.n, kl.value, int(searched[0]), searched[1]))
        self._applied = (record, (refusals, kl))
        return refusals, kl

    def restore(self) -> None:
        """Make the model unedited again."""
        self.bench.editor.restore()
        self._applied = None
        self._edits = ()

    @property
    def applied(self) -> tuple[TrialRecord, tuple[Score, ...]]:
        """The applied trial and its scores in the weights.

        Raises:
            RuntimeError: No trial is applied.
        """
        if self._applied is None:
            raise RuntimeError("no trial is applied")
        return self._applied

    def adapter_obstacle(self) -> str | None:
        """Why the applied trial cannot be saved as an adapter, or None where it can."""
        return adapter_obstacle(self._edits)

    def save(self, folder: Path, export_format: ExportFormat) -> SavedModel:
        """Save the applied trial; the folder appears under its name only when it is whole.

        Raises:
            UserError: The folder cannot be used.
            ExportError: It could not be saved; nothing was left behind.
        """
        record, scores = self.applied
        bench = full_precision(self.bench)
        bench.editor.restore()
        edits = bench.edits(record.plan)
        factors = None
        if export_format is ExportFormat.ADAPTER:
            factors = adapter_factors(edits, bench.editor)
        bench.editor.apply(edits)
        texts = tuple(map(bench.runner.render, bench.prompts.bad_evaluation.prompts[:VERIFIED_PROMPTS]))
        content = ExportContent(
            behavior="refusal",
            plan=record.plan,
            scores=scores,
            settings=bench.settings.model_dump(mode="json"),
            direction_method=bench.directions.method,
            direction_provenance=bench.directions.provenance,
            trial=record.number,
        )
        return save_model(
            bench.loaded,
            folder,
            content,
            factors=factors,
            verification=Verification(texts, bench.runner.formatter.add_special_tokens),
            max_shard_size=bench.settings.max_shard_size,
        )

    def upload(self, folder: Path, repository: str, private: bool) -> str:
        """Upload a saved folder; returns its address on the hub."""
        return upload_folder(folder, repository, private)

    def stream(self, messages: list[dict[str, str]]) -> Iterator[str]:
        """The model's answer to a conversation, piece by piece."""
        runner = self.bench.runner
        text = runner.formatter.render_messages(messages) + runner.calibration.response_prefix
        loaded = runner.loaded
        return stream_answer(loaded.model, loaded.tokenizer, text, CHAT_TOKENS, runner.formatter.add_special_tokens)
