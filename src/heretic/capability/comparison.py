"""Whether an edit changed what a model is able to do: the same questions answered twice, compared in pairs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from scipy.stats import binomtest

from heretic.capability_text import OVERALL

CONFIDENCE = 0.95


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
            "base_interval": list(wilson(self.both + self.became_wrong, self.count)),
            "edited": self.edited,
            "edited_interval": list(wilson(self.both + self.became_right, self.count)),
            "difference": self.difference,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "became_right": self.became_right,
            "became_wrong": self.became_wrong,
            "changed": self.changed,
        }


def wilson(successes: int, count: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share."""
    interval = binomtest(successes, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def paired_interval(both: int, only_second: int, only_first: int, neither: int) -> tuple[float, float]:
    """95 % confidence interval of the second share minus the first, both of the same items.

    Wilson intervals of the two shares, joined by "square and add" with their correlation: method 10 of Newcombe,
    "Improved confidence intervals for the difference between binomial proportions based on paired data", Statistics in
    Medicine 17 (1998), doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C. Unlike percentiles of a
    bootstrap it holds for few items, and has a width where nothing changed.

    Args:
        both: Successes of both.
        only_second: Successes of the second alone.
        only_first: Successes of the first alone.
        neither: The rest.

    Raises:
        ZeroDivisionError: There are no items.
    """
    count = both + only_second + only_first + neither
    first, second = both + only_first, both + only_second
    share1, share2 = first / count, second / count
    (low1, high1), (low2, high2) = wilson(first, count), wilson(second, count)
    correlation = _correlation(both, only_second, only_first, neither)
    difference = share2 - share1

    def joined(down: float, up: float) -> float:
        # Rounding may leave a negative number where the correlation is 1.
        return sqrt(max(down**2 - 2 * correlation * down * up + up**2, 0.0))

    low = difference - joined(share2 - low2, high1 - share1)
    high = difference + joined(high2 - share2, share1 - low1)
    return max(low, -1.0), min(high, 1.0)


def _correlation(both: int, only_second: int, only_first: int, neither: int) -> float:
    """The phi coefficient of a 2x2 table, towards 0 where it is positive (Newcombe's continuity correction)."""
    count = both + only_second + only_first + neither
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    determinant = float(both * neither - only_second * only_first)
    if determinant > 0:
        determinant = max(determinant - count / 2, 0.0)
    return determinant / sqrt(margins)


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
