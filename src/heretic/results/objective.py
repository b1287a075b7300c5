"""What a study minimises: behaviours and divergence as numbers of their own, or one number made of them. Pure.

What has to stay bounds trials (see `Scores.is_allowed`), or its losses are one more number, as a behaviour's are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from heretic.results.score import Scores


@dataclass(frozen=True, slots=True)
class Objective:
    """Each behaviour and KL, or their weighted sum.

    The sum is ``sum of value / scale of every behaviour + kl_weight * KL`` with KL in nats: shares of what the original
    model shows, so that with weight 1 one nat of divergence weighs as much as all of a behaviour, as in `pareto.knee`.

    Attributes:
        kl_weight: Weight of a nat in the sum; None keeps the numbers apart.
        prunes: Whether trials are stopped once their sum is bound to be worse than the best one's.
        behaviors: How many numbers of answers are minimised: those of behaviours, then of what has to stay.
        names: What they are called.
    """

    kl_weight: float | None = None
    prunes: bool = False
    behaviors: int = 1
    names: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many numbers are minimised."""
        return self.behaviors + 1 if self.kl_weight is None else 1

    @property
    def value_names(self) -> list[str]:
        """What the numbers are called in programs that show any study; empty where the behaviours have no names."""
        if not self.names:
            return []
        return (
            [*self.names, "KL divergence"] if self.kl_weight is None else [f"{' + '.join(self.names)} + KL divergence"]
        )

    def values(self, scores: Scores) -> list[float]:
        """What is told of a trial's scores; lower is better."""
        values = list(scores.values)
        if self.kl_weight is None:
            return values
        return [weighted_sum(values, [score.scale for score in scores.minimised[:-1]], self.kl_weight)]


def weighted_sum(values: Sequence[float], scales: Sequence[float], kl_weight: float) -> float:
    """The one number of (behaviours, KL), see Objective.

    Args:
        values: The behaviours' and KL's.
        scales: What each behaviour is a share of.
        kl_weight: Weight of a nat.
    """
    *behaviors, kl = values
    return sum(value / scale for value, scale in zip(behaviors, scales, strict=True)) + kl_weight * kl


BOTH_NUMBERS = Objective()
"""The default: behaviour and divergence apart."""
