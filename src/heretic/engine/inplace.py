"""The reference engine: weights edited and restored in every trial, measured by ordinary passes and to the end."""

from collections.abc import Callable, Sequence

from heretic.edits.algebra import Edit
from heretic.edits.editor import Editor, applied
from heretic.edits.plan import EditPlan
from heretic.engine.measurement import Measurement
from heretic.errors import TrialFailed
from heretic.evaluation.evaluator import Evaluator
from heretic.models.devices import is_out_of_memory
from heretic.models.memory import memory_ran_out
from heretic.search.gates import Gate
from heretic.search.record import TrialState

BuildEdits = Callable[[EditPlan], tuple[Edit, ...]]

MEMORY_RAN_OUT = "memory ran out; a smaller --batch-size needs less"


class InplaceEngine:
    """One plan at a time; see Engine."""

    candidates = 1

    def __init__(self, build: BuildEdits, editor: Editor, refusals: Evaluator, kl: Evaluator) -> None:
        self._build = build
        self._editor = editor
        self._refusals = refusals
        self._kl = kl
        kl.remember()

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        """See Engine. The gate is left open: this is what the other engine is checked against."""
        return [self._measure_one(plan, number) for plan, number in zip(plans, numbers, strict=True)]

    def _measure_one(self, plan: EditPlan, number: int) -> Measurement:
        try:
            with applied(self._editor, self._build(plan)):
                kl = self._kl.score(number)
                return Measurement((self._refusals.score(number), kl), TrialState.COMPLETE)
        except TrialFailed as error:
            return Measurement((), TrialState.FAILED, str(error))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        memory_ran_out(self._refusals.runner.loaded.device, f"measuring trial {number + 1}")
        return Measurement((), TrialState.FAILED, MEMORY_RAN_OUT)
