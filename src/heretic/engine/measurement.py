"""What an engine is, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from heretic.passes.choose import Slower
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan
from heretic.results.score import Scores
from heretic.results.trial import TrialState

MEMORY_RAN_OUT = "memory ran out, also with one candidate and one prompt at a time"


@dataclass(frozen=True, slots=True)
class Measurement:
    """How measuring one plan ended.

    Attributes:
        scores: None where it failed. Of a stopped trial they are what had been measured when it was stopped: what
            answers amount to so far, a lower bound, and the mean divergence of the positions seen.
        state: COMPLETE, DOMINATED, PRUNED or FAILED.
        reason: Why it failed or was stopped; empty for a complete one.
    """

    scores: Scores | None
    state: TrialState
    reason: str = ""


class Engine(Protocol):
    """Measures plans; the model is unedited before and after.

    Attributes:
        candidates: K, how many plans are best measured at once.
        slower: What is not done in the best way, why, and what that costs.
    """

    candidates: int
    slower: tuple[Slower, ...]

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        """Measure up to K plans.

        Args:
            plans: What to measure.
            numbers: Their trials' numbers, named in events.
            gate: May stop a trial early.

        Returns:
            One measurement a plan.
        """
