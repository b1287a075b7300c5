"""The dominance gate: a trial that a finished one beats whatever happens next need not be measured to the end.

Lossless for the front: only what could never stand on it is stopped (tested by replaying a study). Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heretic.results.front import Front, dominates
from heretic.results.objective import Objective, weighted_sum


@dataclass(frozen=True, slots=True)
class Bound:
    """The best of one number so far; see results.objective.

    Attributes:
        best: The lowest weighted sum of a complete trial.
        scales: What each behaviour is a share of, see Score.
        kl_weight: Weight of a nat.
    """

    best: float
    scales: tuple[float, ...]
    kl_weight: float

    def excludes(self, values: Sequence[float]) -> bool:
        """Whether a trial with at least so much of everything is bound to be worse."""
        return weighted_sum(values, self.scales, self.kl_weight) > self.best


@dataclass(frozen=True, slots=True)
class Gate:
    """What finished trials reached.

    Attributes:
        finished: Values (behaviours, KL) of the front's trials; none leaves the gate open.
        bound: Closes for what cannot become best any more, though it might stand on the front; None where that matters.
    """

    finished: tuple[tuple[float, ...], ...] = ()
    bound: Bound | None = None

    @classmethod
    def behind(cls, front: Front, objective: Objective | None = None) -> "Gate":
        """The gate that a study's front makes: whatever a finished trial closes, one of the front closes as well."""
        finished = tuple(record.values for record in front.records)
        if objective is None or objective.kl_weight is None or not objective.prunes or not front.records:
            return cls(finished)
        # Who is nowhere worse has no greater sum, so the least is on the front.
        best = min(objective.values(record.measured)[0] for record in front.records)
        scales = tuple(score.scale for score in front.records[0].measured.minimised[:-1])
        return cls(finished, Bound(best, scales, objective.kl_weight))

    def limit(self, values: Sequence[float], place: int = 0) -> float:
        """From what amount of one behaviour on the gate is closed; infinity for never.

        Args:
            values: Lower bounds of the behaviours, and the divergence.
            place: Of the behaviour; its own bound plays no part.

        Returns:
            The amount where it is counted in ones; of other amounts it may be one too many, which only costs a look.
        """
        others = [index for index in range(len(values)) if index != place]
        dominated = min(
            (
                finished[place] + (0 if any(finished[index] < values[index] for index in others) else 1)
                for finished in self.finished
                if all(finished[index] <= values[index] for index in others)
            ),
            default=math.inf,
        )
        bound = self.bound
        if bound is None:
            return dominated
        # The share that is left for the behaviour; rounding may make the count one too small, which only costs a look.
        rest = [0.0 if index == place else value for index, value in enumerate(values)]
        left = max(bound.best - weighted_sum(rest, bound.scales, bound.kl_weight), 0.0) * bound.scales[place]
        return min(dominated, math.floor(left) + 1)

    def closes(self, values: Sequence[float]) -> bool:
        """Whether a trial with at least so much of the behaviours and so much divergence is dominated already."""
        return any(dominates(finished, values) for finished in self.finished)

    def prunes(self, values: Sequence[float]) -> bool:
        """Whether a trial with at least so much of everything cannot become the best any more."""
        return self.bound is not None and self.bound.excludes(values)
