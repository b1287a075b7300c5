"""Split expressions such as ``train[:400]``: parsed once, applied to every kind of source alike."""

import re
from dataclasses import dataclass

from heretic.errors import PromptError

_EXPRESSION = re.compile(r"(?P<name>[^\[\]]*)(?:\[(?P<low>-?\d+%?)?(?P<colon>:)(?P<high>-?\d+%?)?\])?")


@dataclass(frozen=True, slots=True)
class Split:
    """A split's name and the slice of it.

    Attributes:
        name: Empty where only a slice was given.
        low: First row, or a percentage such as ``10%``, or None.
        high: Row after the last, likewise.
    """

    name: str
    low: str | None = None
    high: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is cut off."""
        return self.low is None and self.high is None

    def bounds(self, count: int) -> tuple[int, int]:
        """First row and row after the last, for a split of `count` rows; percentages are rounded to the nearest row."""
        low, high = _row(self.low, count, 0), _row(self.high, count, count)
        return low, max(low, high)


def _row(bound: str | None, count: int, default: int) -> int:
    if bound is None:
        return default
    row = round(count * int(bound[:-1]) / 100) if bound.endswith("%") else int(bound)
    if row < 0:
        row += count
    return min(max(row, 0), count)


def parse_split(expression: str | None) -> Split:
    """Parse ``NAME``, ``NAME[LOW:HIGH]``, ``[LOW:HIGH]``; bounds are rows or percentages, negative ones from the end.

    Raises:
        PromptError: Another form.
    """
    match = _EXPRESSION.fullmatch((expression or "").strip())
    if match is None:
        raise PromptError(f"The split {expression} cannot be read; write it like train, train[:400] or train[10%:20%].")
    return Split(match["name"], match["low"], match["high"])
