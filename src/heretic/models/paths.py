"""Patterns for module paths, so that families can be declared as data."""

import re
from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    expression = ""
    for segment in pattern.split("."):
        if segment == "**":
            expression += r"(?:[^.]+\.)*"
        else:
            expression += re.escape(segment).replace(r"\*", "[^.]*") + r"\."
    return re.compile(expression)


def matches(path: str, pattern: str) -> bool:
    """Tell whether a dotted path fits a pattern: `*` within one segment, `**` for any number of whole segments."""
    return _compiled(pattern).fullmatch(path + ".") is not None


def matches_any(path: str, patterns: Iterable[str]) -> bool:
    """Tell whether a dotted path fits one of the patterns."""
    return any(matches(path, pattern) for pattern in patterns)
