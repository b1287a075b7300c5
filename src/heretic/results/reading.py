"""Values that another version of Heretic, a plug-in or anybody may have made: looked at before they are used. Pure.

Each function returns the value as plain Python has it, or raises a ValueError that says what it must be.
"""

from collections.abc import Mapping, Sequence
from typing import Any

LARGEST = 1e15
"""No number of a study comes near it, and sums and products of a few such numbers stay finite."""
LONGEST_TEXT = 4096
"""Characters of a text that are read."""


def table(value: Any, what: str) -> Mapping[str, Any]:
    """A JSON object; nothing is said of its entries."""
    if not isinstance(value, Mapping):
        raise _wrong(what, "a table", value)
    return value


def items(value: Any, what: str) -> Sequence[Any]:
    """A JSON list; nothing is said of its entries."""
    if not isinstance(value, (list, tuple)):
        raise _wrong(what, "a list", value)
    return value


def text(value: Any, what: str, longest: int = LONGEST_TEXT) -> str:
    """Text that can be written as UTF-8, cut behind so many characters."""
    if not isinstance(value, str):
        raise _wrong(what, "text", value)
    return value[:longest].encode("utf-8", "replace").decode("utf-8")


def number(value: Any, what: str, least: float = -LARGEST, most: float = LARGEST) -> float:
    """A finite number that is no bool; a scalar of numpy or torch becomes one of Python's."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        bounds = "" if least == -LARGEST else f" from {least:g} to {most:g}"
        raise _wrong(what, f"a finite number{bounds}", value)
    return float(value) if isinstance(value, float) else int(value)


def whole(value: Any, what: str, least: int = 0, most: int = int(LARGEST)) -> int:
    """A whole number, also where it is written as 3.0."""
    given = number(value, what)
    if given != int(given) or not least <= given <= most:
        raise _wrong(what, f"a whole number from {least} to {most}", value)
    return int(given)


def plain(value: Any) -> Any:
    """A scalar of numpy or torch as a number of Python; everything else as it is."""
    if isinstance(value, (int, float, str)) or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except (TypeError, ValueError, RuntimeError):  # more than one number
        return value


def _wrong(what: str, kind: str, value: Any) -> ValueError:
    if value is None:
        return ValueError(f"{what} must be {kind}, but is missing")
    is_small = isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) <= LARGEST)
    shown = f"{value}" if is_small else f"of type {type(value).__name__}"
    return ValueError(f"{what} must be {kind}, but is {shown}")
