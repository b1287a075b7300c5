"""The dominance gate: a trial that a finished one beats whatever happens next need not be measured to the end.

Lossless for the front: only what could never stand on it is stopped (tested by replaying a study). Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from heretic.search.pareto import dominates
from heretic.search.record import TrialRecord, TrialState


@dataclass(frozen=True, slots=True)
class Gate:
    """What finished trials reached.

    Attributes:
        finished: Objective values (answers that count, KL) of complete trials; none leaves the gate open. What counts
            are refusals, or answers without one: called refusals here, since bounds work alike.
    """

    finished: tuple[tuple[float, float], ...] = ()

    @classmethod
    def behind(cls, records: Sequence[TrialRecord]) -> "Gate":
        """The gate that a study's records make."""
        complete = [record.values for record in records if record.state is TrialState.COMPLETE]
        return cls(tuple((refusals, kl) for refusals, kl in complete))

    def limit(self, kl: float) -> float:
        """The number of refusals at which the gate closes for a trial with this divergence; infinity for never."""
        return min(
            (refusals if finished < kl else refusals + 1 for refusals, finished in self.finished if finished <= kl),
            default=float("inf"),
        )

    def closes(self, refusals: float, kl: float) -> bool:
        """Whether a trial with at least so many refusals and so much divergence is dominated already."""
        return any(dominates(values, (refusals, kl)) for values in self.finished)
