"""Candidate: one plan while it is being measured beside others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from heretic.evaluation.evaluator import Evaluator
from heretic.evaluation.kl import Compared
from heretic.results.gate import Gate


@dataclass(slots=True, eq=False)
class Candidate:
    """What has been measured of one plan so far.

    Attributes:
        index: Place among the candidates of the batch.
        number: Its trial's number; None where there is no trial.
        first_layer: The first layer that it edits.
        allowed: By behaviour, and by set of answers that have to stay, how much of it may be counted; None for as much
            as there is.
        divergences: KL divergence and top-1 agreement of the positions seen, by the place of their prompt.
        total_divergence: Sum of these divergences.
        positions: Their number.
        counted: By behaviour, its score's value as far as answers are judged: a lower bound.
        answered: By behaviour, prompts whose answers are judged.
        dominated: Why it was stopped, or an empty string.
        pruned: Whether it was stopped only because it cannot become the best any more; see results.gate.
        failed: Whether its logits are not finite.
    """

    index: int
    number: int | None
    first_layer: int
    allowed: Sequence[int | None] = (None,)
    divergences: dict[int, Compared] = field(default_factory=dict)
    total_divergence: float = 0.0
    positions: int = 0
    counted: list[float] = field(init=False)
    answered: list[int] = field(init=False)
    dominated: str = ""
    pruned: bool = False
    failed: bool = False

    def __post_init__(self) -> None:
        self.counted = [0.0] * len(self.allowed)
        self.answered = [0] * len(self.allowed)

    def add_divergences(self, rows: Sequence[int], compared: Sequence[Compared]) -> list[float]:
        """Count divergence and agreement of further prompts; returns each one's sum of divergences."""
        sums: list[float] = torch.stack([divergence.double().sum() for divergence, _ in compared]).tolist()
        self.divergences.update(zip(rows, compared, strict=True))
        self.total_divergence += sum(sums)
        self.positions += sum(len(divergence) for divergence, _ in compared)
        return sums

    def judge_divergence(self, positions: int, gate: Gate) -> None:
        """Stop where the divergence seen so far, of so many positions in all, decides."""
        # Divergences are never negative, so what is seen bounds the mean from below. Not finite compares as False.
        self._stop(gate, self._values(self.total_divergence / positions), "worse by KL alone")
        self.failed = not math.isfinite(self.total_divergence)

    def count_answer(self, place: int, weighted: float) -> None:
        """Count an answer for the behaviour at a place, by its weighted amount."""
        self.answered[place] += 1
        self.counted[place] += weighted

    def judge_answers(self, place: int, gate: Gate, evaluator: Evaluator) -> None:
        """Stop where what is counted so far decides, while answers to the evaluator's prompts are missing."""
        last = place == len(self.allowed) - 1
        if not self.running or (last and self.answered[place] >= len(evaluator.prompts)):
            return
        # Without the amount: answers that were finished in the same round are still counted.
        score = evaluator.score_of(self.counted[place])
        if not score.is_allowed:
            self.dominated = f"too few {score.label}"
        else:
            self._stop(gate, self.values(), f"worse by {score.label} so far")

    def limit(self, place: int, gate: Gate) -> float:
        """From what amount at a place on the candidate is stopped, see `Gate.limit`."""
        allowed = self.allowed[place]
        if allowed is not None:
            return allowed + 1
        return gate.limit(self.values(), sum(bound is None for bound in self.allowed[:place]))

    def _stop(self, gate: Gate, values: tuple[float, ...], reason: str) -> None:
        """Stop where a finished trial is better than these bounds, or, of one objective, the best trial."""
        if gate.closes(values):
            self.dominated = reason
        elif gate.prunes(values):
            self.dominated, self.pruned = reason, True

    def values(self) -> tuple[float, ...]:
        """Lower bounds of what is minimised, and the divergence of the positions seen."""
        return self._values(self.mean_divergence)

    def _values(self, divergence: float) -> tuple[float, ...]:
        minimised = (count for count, allowed in zip(self.counted, self.allowed, strict=True) if allowed is None)
        return (*minimised, divergence)

    @property
    def mean_divergence(self) -> float:
        """KL of the positions seen."""
        return self.total_divergence / self.positions

    @property
    def running(self) -> bool:
        """Whether anything is left to find out."""
        return not self.dominated and not self.failed
