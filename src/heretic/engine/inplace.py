"""The reference engine: weights edited and restored in every trial, measured by ordinary passes and to the end."""

from collections.abc import Callable, Sequence

from heretic.common.errors import HereticError, TrialFailed
from heretic.editors.editor import Editor, applied
from heretic.edits.algebra import Edit
from heretic.engine.failures import failed_by
from heretic.engine.measurement import MEMORY_RAN_OUT, Measurement
from heretic.evaluation.evaluator import Evaluator
from heretic.models.devices import is_out_of_memory
from heretic.models.memory import memory_ran_out
from heretic.observability.events import Warned, emit
from heretic.passes.calibration import backing_off
from heretic.passes.choose import Slower
from heretic.passes.runner import ModelRunner
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialState

BuildEdits = Callable[[EditPlan], tuple[Edit, ...]]


class InplaceEngine:
    """One plan at a time; see Engine."""

    candidates = 1

    def __init__(
        self,
        build: BuildEdits,
        editor: Editor,
        behaviors: Sequence[Evaluator],
        kl: Evaluator,
        slower: Sequence[Slower] = (),
    ) -> None:
        self.slower = tuple(slower)
        self._build = build
        self._editor = editor
        self._behaviors = tuple(behaviors)
        self._kl = kl
        kl.remember()

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        """See Engine. The gate is left open: this is what the other engine is checked against."""
        return [self._measure_one(plan, number) for plan, number in zip(plans, numbers, strict=True)]

    def _measure_one(self, plan: EditPlan, number: int) -> Measurement:
        while True:
            try:
                with applied(self._editor, self._build(plan)):
                    kl = self._kl.score(number)
                    behaviors = tuple(own.score(number) for own in self._behaviors)
                    return Measurement(Scores(behaviors, kl), TrialState.COMPLETE)
            except TrialFailed as error:
                return Measurement(None, TrialState.FAILED, str(error))
            except Exception as error:
                if isinstance(error, HereticError) and not is_out_of_memory(error):
                    raise
                if not is_out_of_memory(error):
                    return failed_by(error, [number])[0]
            # Outside the handler the traceback no longer holds the tensors of the failed pass.
            memory_ran_out(self._kl.runner.loaded.device, f"measuring trial {number + 1}")
            if not halve_rows((*self._behaviors, self._kl)):
                return Measurement(None, TrialState.FAILED, MEMORY_RAN_OUT)


def scored(evaluator: Evaluator, trial: int | None, doing: str) -> Score:
    """The score of the model as it is, with as many prompts at once as fit into memory, which the evaluator keeps.

    Args:
        evaluator: What measures.
        trial: Named in events.
        doing: The same in words, for messages.

    Raises:
        TrialFailed: The model cannot be measured; the message stands after "because".
        OutOfMemoryError: Not even one prompt at a time can be measured.
    """

    def work(fitting: ModelRunner) -> Score:
        evaluator.runner = fitting
        return evaluator.score(trial)

    return backing_off(evaluator.runner, work, doing)[0]


def halve_rows(evaluators: Sequence[Evaluator]) -> bool:
    """Have evaluators measure half as many prompts at once from now on; False where it is one already."""
    size = max(own.runner.calibration.batch_size for own in evaluators)
    if size == 1:
        return False
    for own in evaluators:
        own.runner = own.runner.calibrated(batch_size=max(1, own.runner.calibration.batch_size // 2))
    emit(Warned(f"Memory ran out with batches of {size}; going on with {size // 2}."))
    return True
