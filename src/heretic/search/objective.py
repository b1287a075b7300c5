"""What a study minimises: the behaviour and the divergence as two numbers, or one number made of both. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from heretic.evaluation.score import Score


@dataclass(frozen=True, slots=True)
class Objective:
    """Two numbers (answers that count, KL), or their weighted sum.

    The sum is ``count / max(baseline count, 1) + kl_weight * KL`` with KL in nats: the share of what the unedited model
    shows, so that with weight 1 one nat of divergence weighs as much as all of the behaviour, as in `pareto.knee`.

    Attributes:
        kl_weight: Weight of a nat in the sum; None keeps the two numbers apart.
        prunes: Whether trials are stopped once their sum is bound to be worse than the best one's.
    """

    kl_weight: float | None = None
    prunes: bool = False

    @property
    def count(self) -> int:
        """How many numbers are minimised."""
        return 2 if self.kl_weight is None else 1

    def values(self, scores: Sequence[Score]) -> list[float]:
        """What is told of a trial's scores (behaviour, KL); lower is better."""
        if self.kl_weight is None:
            return [score.value for score in scores]
        behavior, kl = scores
        return [weighted_sum(behavior.value, kl.value, behavior.baseline, self.kl_weight)]

    def identity(self) -> str:
        """Text that differs whenever studies may not be continued with each other's trials."""
        return "two numbers" if self.kl_weight is None else f"one number, a nat weighs {self.kl_weight}"


def weighted_sum(count: float, kl: float, baseline: float, kl_weight: float) -> float:
    """The one number; see Objective."""
    return count / max(baseline, 1.0) + kl_weight * kl


BOTH_NUMBERS = Objective()
"""The default: behaviour and divergence apart."""
