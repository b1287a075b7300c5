"""The dominance gate: a trial that a finished one beats whatever happens next need not be measured to the end.

Lossless for the front: only what could never stand on it is stopped (tested by replaying a study). Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heretic.search.objective import Objective, weighted_sum
from heretic.search.pareto import dominates
from heretic.search.record import TrialRecord, TrialState


@dataclass(frozen=True, slots=True)
class Bound:
    """The best of one number so far; see search.objective.

    Attributes:
        best: The lowest weighted sum of a complete trial.
        baseline: The unedited model's count.
        kl_weight: Weight of a nat.
    """

    best: float
    baseline: float
    kl_weight: float

    def excludes(self, refusals: float, kl: float) -> bool:
        """Whether a trial with at least so much of both is bound to be worse."""
        return weighted_sum(refusals, kl, self.baseline, self.kl_weight) > self.best


@dataclass(frozen=True, slots=True)
class Gate:
    """What finished trials reached.

    Attributes:
        finished: Objective values (answers that count, KL) of complete trials; none leaves the gate open. What counts
            are refusals, or answers without one: called refusals here, since bounds work alike.
        bound: Closes for what cannot become best any more, though it might stand on the front; None where that matters.
    """

    finished: tuple[tuple[float, float], ...] = ()
    bound: Bound | None = None

    @classmethod
    def behind(cls, records: Sequence[TrialRecord], objective: Objective | None = None) -> "Gate":
        """The gate that a study's records make."""
        complete = [record for record in records if record.state is TrialState.COMPLETE]
        finished = tuple((refusals, kl) for refusals, kl in (record.values for record in complete))
        if objective is None or objective.kl_weight is None or not objective.prunes or not complete:
            return cls(finished)
        best = min(objective.values(record.scores)[0] for record in complete)
        return cls(finished, Bound(best, complete[0].behavior.baseline, objective.kl_weight))

    def limit(self, kl: float) -> float:
        """The number of refusals at which the gate closes for a trial with this divergence; infinity for never."""
        dominated = min(
            (refusals if finished < kl else refusals + 1 for refusals, finished in self.finished if finished <= kl),
            default=float("inf"),
        )
        bound = self.bound
        if bound is None:
            return dominated
        # The share that is left for the behaviour; rounding may make the count one too small, which only costs a look.
        left = max(bound.best - bound.kl_weight * kl, 0.0) * max(bound.baseline, 1.0)
        return min(dominated, math.floor(left) + 1)

    def closes(self, refusals: float, kl: float) -> bool:
        """Whether a trial with at least so many refusals and so much divergence is dominated already."""
        return any(dominates(values, (refusals, kl)) for values in self.finished)

    def prunes(self, refusals: float, kl: float) -> bool:
        """Whether a trial with at least so many refusals and so much divergence cannot become the best any more."""
        return self.bound is not None and self.bound.excludes(refusals, kl)
