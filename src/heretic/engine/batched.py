"""The engine: K plans in one pass, edited on what the writers put out (DESIGN sections 4 and 5).

KL first, on the baselines' prompts; what is dominated by then is not asked for answers. Then each target's prompts, the
likeliest to count first, until what is counted alone decides. Passes are ragged ones (divergences.py, answers.py) where
a model can be read so, else its own (padded.py).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from heretic.common.errors import HereticError, TrialFailed
from heretic.editors.output_space import OutputSpaceEditor
from heretic.edits.algebra import Edit
from heretic.engine.candidate import AssignRows, Candidate
from heretic.engine.failures import failed_by
from heretic.engine.inplace import BuildEdits
from heretic.engine.measurement import MEMORY_RAN_OUT, Measurement
from heretic.models.devices import is_out_of_memory
from heretic.models.memory import memory_ran_out
from heretic.passes.choose import Slower
from heretic.passes.ragged import KeyValues
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialState

Prefix = Callable[[int], KeyValues]
"""Keys and values of the shared prefix for K candidates."""


class Divergences(Protocol):
    """The KL job."""

    @property
    def layer_count(self) -> int:
        """Decoder layers of the model."""

    @property
    def device(self) -> torch.device:
        """Where the model takes its tokens."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of lower layers that are kept."""

    def run(self, candidates: Sequence[Candidate], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        """Measure candidates until done or dominated."""

    def score(self, candidate: Candidate) -> Score:
        """The score of the positions that a candidate was measured on.

        Raises:
            TrialFailed: Its logits are not finite.
        """

    def relieve(self) -> bool:
        """Need less memory from now on: smaller passes, nothing kept; False where nothing is left to give."""


class Answers(Protocol):
    """The answer job of one behaviour."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of lower layers that are kept."""

    def run(self, candidates: Sequence[Candidate], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        """Judge answers of every candidate that is still running, until done or dominated."""

    def score(self, candidate: Candidate) -> Score:
        """The score of the answers judged."""

    def relieve(self) -> bool:
        """Need less memory from now on: fewer prompts at once, nothing kept; False where nothing is left to give."""


class BatchedEngine:
    """See Engine.

    Attributes:
        candidates: K.
        shared_tokens: How many tokens all prompts begin with.
        slower: What is not done in the best way.
    """

    def __init__(
        self,
        build: BuildEdits,
        editor: OutputSpaceEditor,
        prefix: Prefix,
        divergences: Divergences,
        answers: Sequence[Answers],
        candidates: int,
        shared_tokens: int,
    ) -> None:
        self.candidates = candidates
        self.shared_tokens = shared_tokens
        self.slower: tuple[Slower, ...] = ()
        self._build = build
        self._editor = editor
        self._prefix = prefix
        self._divergences = divergences
        self._answers = answers

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        """See Engine."""
        while True:
            try:
                return self._measure_together(plans, numbers, gate)
            except Exception as error:
                ran_out = is_out_of_memory(error)
                if isinstance(error, HereticError) and not ran_out:
                    raise
                if len(plans) == 1 and not ran_out:
                    return failed_by(error, numbers)
            # Outside the handler the traceback no longer holds the tensors of the failed pass.
            if ran_out:
                shown = ", ".join(str(number + 1) for number in numbers)
                memory_ran_out(self._divergences.device, f"measuring trial {shown}")
            if len(plans) > 1:
                half = (len(plans) + 1) // 2
                if ran_out:
                    # Fewer at once need less.
                    self.candidates = half
                # Of an unforeseen error this finds out whose it is.
                parts = [slice(0, half), slice(half, None)]
                return [own for part in parts for own in self.measure(plans[part], numbers[part], gate)]
            # All of them, whichever ran out.
            if not any([self._divergences.relieve(), *(own.relieve() for own in self._answers)]):
                return [Measurement(None, TrialState.FAILED, MEMORY_RAN_OUT)]

    def _measure_together(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        try:
            edits = [self._build(plan) for plan in plans]
            candidates = [
                Candidate(index, number, _first_layer(own, self._divergences.layer_count), len(self._answers))
                for index, (number, own) in enumerate(zip(numbers, edits, strict=True))
            ]
            self._run(candidates, edits, gate)
        finally:
            self._editor.restore()
        return [self._measurement(candidate) for candidate in candidates]

    @property
    def kept_bytes(self) -> int:
        """Bytes of lower layers that are kept across trials."""
        return self._divergences.kept_bytes + sum(own.kept_bytes for own in self._answers)

    @torch.inference_mode()
    def _run(self, candidates: Sequence[Candidate], edits: Sequence[Sequence[Edit]], gate: Gate) -> None:
        self._editor.apply_candidates(edits)
        self._editor.assign_rows(range(len(candidates)))
        prefix = self._prefix(len(candidates))
        self._divergences.run(candidates, prefix, gate, self._editor.assign_rows)
        for answers in self._answers:
            answers.run(candidates, prefix, gate, self._editor.assign_rows)

    def _measurement(self, candidate: Candidate) -> Measurement:
        try:
            kl = self._divergences.score(candidate)
        except TrialFailed as error:
            return Measurement(None, TrialState.FAILED, str(error))
        scores = Scores(tuple(own.score(candidate) for own in self._answers), kl)
        if candidate.dominated:
            state = TrialState.PRUNED if candidate.pruned else TrialState.DOMINATED
            return Measurement(scores, state, candidate.dominated)
        return Measurement(scores, TrialState.COMPLETE)


def _first_layer(edits: Sequence[Edit], layer_count: int) -> int:
    # A plan that edits nothing: every layer might be skipped, but one has to run.
    return min((edit.writer.layer for edit in edits), default=layer_count - 1)
