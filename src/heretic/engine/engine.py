"""The engine: plans measured by an editor and a way of reading the model.

KL first, on the baselines' prompts; what is dominated by then is not asked for answers. Then each target's prompts, the
likeliest to count first, until what is counted alone decides. In place, the reference, it is one candidate at a time in
the weights, read by ordinary passes and to the end.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from heretic.common.errors import HereticError, TrialFailed
from heretic.editors.editor import Editor
from heretic.edits.algebra import Edit
from heretic.engine.answers import AnswerJob
from heretic.engine.candidate import Candidate
from heretic.engine.divergences import DivergenceJob
from heretic.engine.measurement import MEMORY_RAN_OUT, Measurement, failed, failed_by
from heretic.models.devices import is_out_of_memory
from heretic.models.host_memory import give_back_freed
from heretic.models.memory import RanOut, attempt, memory_ran_out, nothing_smaller
from heretic.observability.events import Warned, emit
from heretic.observability.steps import step
from heretic.passes.passes import AssignRows, SideBySide, Slower
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan
from heretic.results.score import Scores, checked
from heretic.results.trial import TrialState, shown

T = TypeVar("T")

BuildEdits = Callable[[EditPlan], tuple[Edit, ...]]


class Jobs:
    """What is measured of one model that is read in one way: KL, answers of every behaviour, and what has to stay."""

    def __init__(self, passes: SideBySide, divergences: DivergenceJob, answers: Sequence[AnswerJob]) -> None:
        self.passes = passes
        self.divergences = divergences
        self.answers = tuple(answers)

    @property
    def device(self) -> torch.device:
        """Where the model takes its tokens."""
        return self.passes.runner.loaded.device

    def candidate(self, index: int, number: int | None, edits: Sequence[Edit]) -> Candidate:
        """A candidate of which nothing is measured."""
        # A plan that edits nothing: every layer might be skipped, but one has to run.
        first_layer = min((edit.writer.layer for edit in edits), default=self.passes.runner.layout.layer_count - 1)
        return Candidate(index, number, first_layer, tuple(job.allowed for job in self.answers))

    @torch.inference_mode()
    def run(self, candidates: Sequence[Candidate], assign: AssignRows, gate: Gate) -> None:
        """Measure candidates that are applied, until done or dominated."""
        applied = self.passes.applied(len(candidates), assign)
        self.divergences.run(candidates, applied, gate)
        for answers in self.answers:
            answers.run(candidates, applied, gate)

    def scores(self, candidate: Candidate) -> Scores:
        """What was measured of a candidate.

        Raises:
            TrialFailed: Its logits are not finite, or an evaluator's score is none.
        """
        kl = self.divergences.score(candidate)
        try:
            return Scores.of([job.score(candidate) for job in self.answers], checked(kl))
        except ValueError as error:
            raise TrialFailed(f"what was measured cannot be used: {error}") from error

    def remember(self) -> None:
        """Read the original model, unless that was done: what edits are compared with.

        Raises:
            ModelError: It cannot be measured.
            OutOfMemoryError: Not even one prompt at a time can be read.
        """
        self._within_memory(self.divergences.remember, "reading the original model's predictions")

    def rest(self) -> None:
        """Give back what is kept of the original model and for further candidates; `remember` makes it again."""
        self.divergences.kl.forget()
        self.passes.rest()
        give_back_freed()

    def present_scores(self, number: int | None, doing: str) -> Scores:
        """The scores of the model as it is, measured to the end; `remember` comes first.

        Args:
            number: The trial's, named in events.
            doing: The same in words, for messages.

        Raises:
            TrialFailed: Its logits are not finite; the message stands after "because".
            OutOfMemoryError: Not even one prompt at a time can be read.
        """

        def measure() -> Scores:
            candidate = self.candidate(0, number, ())
            self.run([candidate], lambda _rows: None, Gate())
            return self.scores(candidate)

        return self._within_memory(measure, doing)

    def relieve(self, doing: str) -> bool:
        """Need less memory from now on: predictions go to host memory, passes shrink; False where nothing is left."""
        moved = self.divergences.kl.move_to_host()
        relieved = self.passes.relieve() or moved
        if relieved:
            emit(Warned(f"Memory ran out while {doing}; going on with smaller batches."))
        return relieved

    def _within_memory(self, work: Callable[[], T], doing: str) -> T:
        while True:
            with step(doing):
                result = attempt(work, self.device, doing)
            if not isinstance(result, RanOut):
                return result
            if not self.relieve(doing):
                raise nothing_smaller(doing, result)


class Engine:
    """Measures plans; the model is unedited before and after.

    Attributes:
        name: ``batched`` or ``in place``.
        candidates: K, how many plans are best measured at once.
        reference: What is measured by ordinary passes, to the end; the engine in place does no more.
        slower: What is not done in the best way, why, and what that costs.
    """

    def __init__(
        self,
        name: str,
        build: BuildEdits,
        editor: Editor,
        jobs: Jobs,
        reference: Jobs,
        candidates: int = 1,
        slower: Sequence[Slower] = (),
    ) -> None:
        self.name = name
        self.candidates = candidates
        self.reference = reference
        self.slower = tuple(slower)
        self._build = build
        self._editor = editor
        self._jobs = jobs

    @property
    def is_reference(self) -> bool:
        """Whether this is the engine in place, whose gate is always open."""
        return self._jobs is self.reference

    @property
    def shared_tokens(self) -> int:
        """How many tokens all prompts begin with, and are read once a candidate."""
        return self._jobs.passes.shared_tokens

    @property
    def kept_bytes(self) -> int:
        """Bytes of lower layers that are kept across trials."""
        return self._jobs.passes.kept_bytes

    def remember_reference(self) -> None:
        """Read the original model for the reference; what trials need makes room for it.

        Predictions over a whole vocabulary may take more memory than a small model's weights.

        Raises:
            ModelError, OutOfMemoryError: See `Jobs.remember`.
        """
        if not self.is_reference:
            self._jobs.rest()
        self.reference.remember()

    def rest(self) -> None:
        """Give back what is kept for trials and for the reference, until either is measured again."""
        for jobs in {self._jobs, self.reference}:
            jobs.rest()

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        """Measure plans, up to K at once.

        Args:
            plans: What to measure.
            numbers: Their trials' numbers, named in events.
            gate: May stop a trial early, except in place.

        Returns:
            One measurement a plan.
        """
        if len(plans) > self.candidates:
            return self._in_parts(plans, numbers, gate, self.candidates)
        while True:
            try:
                return self._measure_together(plans, numbers, Gate() if self.is_reference else gate)
            except Exception as error:
                ran_out = is_out_of_memory(error)
                unforeseen = not isinstance(error, HereticError)
                if not ran_out and not unforeseen and not isinstance(error, TrialFailed):
                    raise
                if len(plans) == 1 and not ran_out:
                    return failed_by(error, numbers) if unforeseen else [failed(str(error))]
            # Outside the handler the traceback no longer holds the tensors of the failed pass.
            doing = f"measuring trial {', '.join(str(shown(number)) for number in numbers)}"
            if ran_out:
                memory_ran_out(self._jobs.device, doing)
            if len(plans) > 1:
                half = (len(plans) + 1) // 2
                if ran_out:
                    # Fewer at once need less.
                    self.candidates = half
                # Of an unforeseen error this finds out whose it is.
                return self._in_parts(plans, numbers, gate, half)
            if not self._jobs.relieve(doing):
                return [failed(MEMORY_RAN_OUT)]

    def _in_parts(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate, size: int) -> list[Measurement]:
        parts = [slice(start, start + size) for start in range(0, len(plans), size)]
        return [measurement for part in parts for measurement in self.measure(plans[part], numbers[part], gate)]

    def _measure_together(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        try:
            edits = [self._build(plan) for plan in plans]
            numbered = enumerate(zip(numbers, edits, strict=True))
            candidates = [
                self._jobs.candidate(index, number, candidate_edits) for index, (number, candidate_edits) in numbered
            ]
            self._remember()
            self._editor.apply_candidates(edits)
            self._jobs.run(candidates, self._editor.assign_rows, gate)
        finally:
            self._editor.restore()
        return [self._measurement(candidate) for candidate in candidates]

    def _remember(self) -> None:
        """The same the other way round, where a search goes on after its front was checked."""
        divergences = self._jobs.divergences
        if not divergences.kl.remembers:
            if not self.is_reference:
                self.reference.rest()
                self._jobs.passes.resume()
            divergences.remember()

    def _measurement(self, candidate: Candidate) -> Measurement:
        try:
            scores = self._jobs.scores(candidate)
        except TrialFailed as error:
            return failed(str(error))
        if candidate.dominated:
            state = TrialState.PRUNED if candidate.pruned else TrialState.DOMINATED
            return Measurement(scores, state, candidate.dominated)
        return Measurement(scores, TrialState.COMPLETE)
