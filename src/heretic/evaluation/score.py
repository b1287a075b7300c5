"""Score: what every evaluator returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Score:
    """One measured number.

    Attributes:
        name: Evaluator's name, e.g. ``kl`` or ``refusals``.
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
