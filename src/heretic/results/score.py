"""Score: what every evaluator returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KL = "kl"
"""Name of the score that says how much everything else changed."""
REFUSALS = "refusals"
"""Name of the score that counts answers with a refusal: what a search for less of it minimises."""
WITHOUT_REFUSAL = "without_refusal"
"""Name of the score that counts the other answers: what a search for more refusals minimises."""
WITHOUT = "without_"
"""Begins the name of a count of the answers that do not show a behaviour, where that is to become more."""
MISSING = "missing_"
"""Begins the name of an amount that is to become more: what answers lack of the most that is counted."""


@dataclass(frozen=True, slots=True)
class Score:
    """One measured number.

    Attributes:
        name: What was measured: ``kl``, ``refusals``, ``without_refusal``, ``words``, ...
        value: The number that the search minimises: a mean divergence in nats, a number of answers, or, where there is
            a unit, a mean amount of an answer.
        n: On how many prompts it was measured.
        baseline: The same number of the unedited model.
        details: Further JSON-ready numbers (95th percentile, top-1 agreement, ...).
        unit: What a mean amount is counted in, e.g. ``words``; empty for the others.
    """

    name: str
    value: float
    n: int
    baseline: float
    details: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""

    @property
    def label(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")

    @property
    def is_divergence(self) -> bool:
        """Whether this is the KL divergence and not the behaviour."""
        return self.name == KL

    @property
    def counts_answers(self) -> bool:
        """Whether the value is a number of answers."""
        return not self.is_divergence and not self.unit

    @property
    def share(self) -> float:
        """The value as a share of the unedited model's; for a count that was 0, the count itself."""
        return self.value / self.scale

    @property
    def scale(self) -> float:
        """What the value is a share of, above 0."""
        if self.counts_answers:
            return max(self.baseline, 1.0)
        return self.baseline if self.baseline > 0 else 1.0

    def amount(self, value: float | None = None) -> str:
        """The value, or another value of its kind, as text: ``3/100`` answers, ``32.1`` words, ``0.0123`` nats."""
        value = self.value if value is None else value
        if self.is_divergence:
            return f"{value:.4f}"
        if self.counts_answers:
            return f"{value:.0f}/{self.n}"
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"

    @property
    def refusals(self) -> int:
        """How many answers refuse, for a score that counts refusals or answers without one."""
        return int(self.value if self.name == REFUSALS else self.n - self.value)

    @property
    def baseline_refusals(self) -> int:
        """How many answers of the unedited model refuse, for a score that counts refusals or answers without one."""
        return int(self.baseline if self.name == REFUSALS else self.n - self.baseline)

    def to_json(self) -> dict[str, Any]:
        """The score as plain JSON values."""
        return {
            "name": self.name,
            "value": self.value,
            "n": self.n,
            "baseline": self.baseline,
            "details": dict(self.details),
            **({"unit": self.unit} if self.unit else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Score":
        """The inverse of `to_json`."""
        return cls(
            data["name"], data["value"], data["n"], data["baseline"], dict(data["details"]), data.get("unit", "")
        )


Scores = tuple[Score, ...]
"""What one edit was measured to be: its behaviours, in the order of the run, and KL."""


def behaviors_of(scores: Sequence[Score]) -> Scores:
    """All scores but KL."""
    return tuple(score for score in scores if not score.is_divergence)


def divergence_of(scores: Sequence[Score]) -> Score:
    """The KL score.

    Raises:
        KeyError: There is none.
    """
    for score in scores:
        if score.is_divergence:
            return score
    raise KeyError(KL)
