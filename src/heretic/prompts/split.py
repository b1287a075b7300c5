"""Split expressions such as ``train[:400]``: parsed once, applied to every kind of source alike."""

import re
from dataclasses import dataclass

from heretic.common.errors import PromptError

_BOUND = r"-?\d[\d_]*%?"
_EXPRESSION = re.compile(
    rf"(?P<name>\w+(?:[.-]\w+)*)?(?:\[\s*(?P<low>{_BOUND})?\s*:\s*(?P<high>{_BOUND})?\s*\])?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Split:
    """A split's name and the slice of it.

    Attributes:
        name: Empty where only a slice was given.
        low: First row, or a percentage such as ``10%``, or None.
        high: Row after the last, likewise.
    """

    name: str = ""
    low: str | None = None
    high: str | None = None

    @property
    def needs_count(self) -> bool:
        """Whether the slice means something only once the number of rows is known."""
        return any(
            bound is not None and (bound.startswith("-") or bound.endswith("%")) for bound in (self.low, self.high)
        )

    def bounds(self, count: int) -> tuple[int, int]:
        """First row and row after the last, for a split of `count` rows.

        As in the datasets library: percentages are rounded to the nearest row, bounds below zero count from the end,
        and what lies outside is cut off.
        """
        low, high = _row(self.low, count, 0), _row(self.high, count, count)
        return low, max(low, high)


def _row(bound: str | None, count: int, default: int) -> int:
    if bound is None:
        return default
    row = round(int(bound[:-1]) * count / 100) if bound.endswith("%") else int(bound)
    if row < 0:
        row += count
    return min(max(row, 0), count)


def parse_split(expression: str | None) -> Split:
    """Parse ``NAME``, ``NAME[LOW:HIGH]`` or ``[LOW:HIGH]``; bounds are rows or percentages.

    Raises:
        PromptError: Another form, or a row together with a percentage.
    """
    match = _EXPRESSION.fullmatch((expression or "").strip())
    if match is None:
        raise PromptError(f"The split {expression} cannot be read; write it like train, train[:400] or train[10%:20%].")
    given = [bound for bound in (match["low"], match["high"]) if bound is not None]
    if len({bound.endswith("%") for bound in given}) > 1:
        raise PromptError(f"The split {expression} mixes rows and percentages; use one of the two.")
    return Split(match["name"] or "", match["low"], match["high"])
