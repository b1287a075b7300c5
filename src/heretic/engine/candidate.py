"""Candidate: one plan while it is being measured beside others."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from heretic.search.gates import Gate

AssignRows = Callable[[Sequence[int]], None]
"""Tells the editor which candidate every row of the next passes carries."""

BUSY_TOKENS = 384
"""Tokens of one pass that keep a device busy: more gain hardly anything by going through it together."""


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

    def add_divergences(self, compared: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
        """Count divergence and agreement of further prompts; returns each one's sum of divergences."""
        sums: list[float] = torch.stack([divergence.double().sum() for divergence, _ in compared]).tolist()
        self.divergences += compared
        self.total_divergence += sum(sums)
        self.positions += sum(len(divergence) for divergence, _ in compared)
        return sums

    def judge_divergence(self, positions: int, gate: Gate) -> None:
        """Stop where the divergence seen so far, of so many positions in all, decides."""
        # Divergences are never negative, so what is seen bounds the mean from below. Not finite compares as False.
        if gate.closes(0.0, self.total_divergence / positions):
            self.dominated = "its KL alone is worse than a finished trial"
        elif gate.prunes(0.0, self.total_divergence / positions):
            self.dominated, self.pruned = "its KL alone is worse than the best trial", True
        self.failed = not math.isfinite(self.total_divergence)

    def count_answer(self, counts: bool) -> None:
        """Count an answer, whose verdict may be one that is counted or not."""
        self.answered += 1
        self.refusals += counts

    def judge_answers(self, prompts: int, gate: Gate, label: str) -> None:
        """Stop where the count so far, of so many prompts in all, decides; `label` says what is counted."""
        if not self.running or self.answered >= prompts:
            return
        so_far = f"with {self.refusals} {label} so far it is worse than"
        if gate.closes(self.refusals, self.mean_divergence):
            self.dominated = f"{so_far} a finished trial"
        elif gate.prunes(self.refusals, self.mean_divergence):
            self.dominated, self.pruned = f"{so_far} the best trial", True

    @property
    def mean_divergence(self) -> float:
        """KL of the positions seen."""
        return self.total_divergence / self.positions

    @property
    def running(self) -> bool:
        """Whether anything is left to find out."""
        return not self.dominated and not self.failed


def read_together(candidates: Sequence[Candidate], tokens: int) -> Iterator[list[Candidate]]:
    """Split candidates into those whose prompts are best read in one pass.

    Side by side only as many as keep the device busy, and those that begin at layers nearby: a pass begins at the
    lowest first layer of its candidates.

    Args:
        candidates: Any.
        tokens: What each of them reads.
    """
    together = max(1, BUSY_TOKENS // max(tokens, 1))
    order = sorted(candidates, key=lambda candidate: candidate.first_layer)
    for start in range(0, len(order), together):
        yield order[start : start + together]
