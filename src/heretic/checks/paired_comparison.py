"""Whether an edit changed what a model is able to do: the same questions answered twice, compared in pairs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import binomtest

from heretic.evaluation.intervals import paired_interval, wilson_interval
from heretic.results.capability_text import OVERALL


@dataclass(frozen=True, slots=True)
class PairedAnswers:
    """What became of the answers to some questions.

    Attributes:
        name: Category, or OVERALL.
        both: Right before and after the edit.
        became_wrong: Right before it only.
        became_right: Right after it only.
        neither: Wrong before and after.
        changed: Another choice than before, right or wrong.
    """

    name: str
    both: int
    became_wrong: int
    became_right: int
    neither: int
    changed: int

    @property
    def count(self) -> int:
        """Number of questions."""
        return self.both + self.became_wrong + self.became_right + self.neither

    @property
    def base(self) -> float:
        """Share that the unedited model answered rightly."""
        return (self.both + self.became_wrong) / self.count

    @property
    def edited(self) -> float:
        """Share that the edited model answered rightly."""
        return (self.both + self.became_right) / self.count

    @property
    def difference(self) -> float:
        """Edited minus unedited; negative where the edit did damage."""
        return (self.became_right - self.became_wrong) / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the difference, see `paired_interval`."""
        return paired_interval(self.both, self.became_right, self.became_wrong, self.neither)

    @property
    def p_value(self) -> float:
        """Exact McNemar test: how likely so uneven a change is where an edit spoils as much as it mends."""
        discordant = self.became_right + self.became_wrong
        return 1.0 if discordant == 0 else float(binomtest(self.became_right, discordant).pvalue)

    def to_json(self) -> dict[str, Any]:
        """Plain values, shares from 0 to 1."""
        return {
            "name": self.name,
            "n": self.count,
            "base": self.base,
            "base_interval": list(wilson_interval(self.both + self.became_wrong, self.count)),
            "edited": self.edited,
            "edited_interval": list(wilson_interval(self.both + self.became_right, self.count)),
            "difference": self.difference,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "became_right": self.became_right,
            "became_wrong": self.became_wrong,
            "changed": self.changed,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All questions together, and by category."""

    overall: PairedAnswers
    categories: tuple[PairedAnswers, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; see `PairedAnswers.to_json`."""
        return {"overall": self.overall.to_json(), "categories": [own.to_json() for own in self.categories]}


def compare_answers(
    categories: Sequence[str], right: Sequence[int], base: Sequence[int], edited: Sequence[int]
) -> Comparison:
    """Compare two models' answers to the same questions.

    Args:
        categories: Category of each of N questions.
        right: Index of each one's right choice.
        base: Indices that the unedited model chose.
        edited: Indices that the edited model chose.

    Raises:
        ValueError: They are not equally many.
    """
    rows = list(zip(categories, right, base, edited, strict=True))
    return Comparison(
        _paired(OVERALL, rows),
        tuple(_paired(name, [row for row in rows if row[0] == name]) for name in dict.fromkeys(categories)),
    )


def _paired(name: str, rows: Sequence[tuple[str, int, int, int]]) -> PairedAnswers:
    pairs = [(base == right, edited == right) for _name, right, base, edited in rows]
    return PairedAnswers(
        name,
        pairs.count((True, True)),
        pairs.count((True, False)),
        pairs.count((False, True)),
        pairs.count((False, False)),
        sum(base != edited for _name, _right, base, edited in rows),
    )
