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
        finished: Objective values (refusals, KL) of complete trials; none leaves the gate open.
    """

    finished: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def behind(cls, records: Sequence[TrialRecord]) -> "Gate":
        """The gate that a study's records make."""
        return cls(tuple(record.values for record in records if record.state is TrialState.COMPLETE))

    def closes(self, refusals: float, kl: float) -> bool:
        """Whether a trial with at least so many refusals and so much divergence is dominated already."""
        return any(dominates(values, (refusals, kl)) for values in self.finished)
