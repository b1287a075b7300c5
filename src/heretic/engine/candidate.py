"""Candidate: one plan while it is being measured beside others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

AssignRows = Callable[[Sequence[int]], None]
"""Tells the editor which candidate every row of the next passes carries."""


@dataclass(slots=True, eq=False)
class Candidate:
    """What has been measured of one plan so far.

    Attributes:
        index: Place among the candidates of the batch.
        number: Its trial's number.
        first_layer: The first layer that it edits.
        divergences: KL divergence and top-1 agreement of the positions seen, prompt by prompt.
        total_divergence: Sum of these divergences.
        positions: Their number.
        refusals: Answers counted so far: refusals, or answers without one where refusing is to be strengthened.
        answered: Prompts whose verdict is known.
        dominated: Why it was stopped, or an empty string.
        pruned: Whether it was stopped only because it cannot become the best any more; see search.gates.
        failed: Whether its logits are not finite.
    """

    index: int
    number: int
    first_layer: int
    divergences: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    total_divergence: float = 0.0
    positions: int = 0
    refusals: int = 0
    answered: int = 0
    dominated: str = ""
    pruned: bool = False
    failed: bool = False

    @property
    def mean_divergence(self) -> float:
        """KL of the positions seen."""
        return self.total_divergence / self.positions

    @property
    def running(self) -> bool:
        """Whether anything is left to find out."""
        return not self.dominated and not self.failed
