"""Score: what every evaluator returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REFUSALS = "refusals"
"""Name of the score that counts answers with a refusal: what a search for less of it minimises."""
WITHOUT_REFUSAL = "without_refusal"
"""Name of the score that counts the other answers: what a search for more refusals minimises."""


@dataclass(frozen=True, slots=True)
class Score:
    """One measured number.

    Attributes:
        name: What was measured: ``kl``, ``refusals`` or ``without_refusal``.
        value: The number that the search minimises.
        n: On how many prompts it was measured.
        baseline: The same number of the unedited model.
        details: Further JSON-ready numbers (95th percentile, top-1 agreement, ...).
    """

    name: str
    value: float
    n: int
    baseline: float
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")

    @property
    def counts_answers(self) -> bool:
        """Whether the value is a number of answers, with or without a refusal."""
        return self.name in (REFUSALS, WITHOUT_REFUSAL)

    @property
    def refusals(self) -> int:
        """How many answers refuse, for a score that counts answers."""
        return int(self.value if self.name == REFUSALS else self.n - self.value)

    @property
    def baseline_refusals(self) -> int:
        """How many answers of the unedited model refuse, for a score that counts answers."""
        return int(self.baseline if self.name == REFUSALS else self.n - self.baseline)

    def to_json(self) -> dict[str, Any]:
        """The score as plain JSON values."""
        return {
            "name": self.name,
            "value": self.value,
            "n": self.n,
            "baseline": self.baseline,
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Score":
        """The inverse of `to_json`."""
        return cls(data["name"], data["value"], data["n"], data["baseline"], dict(data["details"]))
