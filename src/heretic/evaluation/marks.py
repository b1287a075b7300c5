"""Marks: what a pack's patterns find in an answer."""

import re
from collections.abc import Sequence

from heretic.common.errors import ConfigurationError

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})


class Marks:
    """Patterns of one behaviour, compiled.

    Args of the constructor: regular expressions, matched whatever the case, on straight quotes; ``^`` and ``$`` stand
    for the beginning and the end of the answer.

    Raises:
        ConfigurationError: There is none, or one cannot be read.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if not patterns:
            raise ConfigurationError("A behaviour that is measured by marks needs patterns; add some to its options.")
        self._patterns = [_compiled(pattern) for pattern in patterns]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where marks stand; of those that overlap, the first and longest only, so that none counts twice."""
        plain = text.strip().translate(_QUOTES)
        starts = sorted(
            (match.start(), -match.end())
            for pattern in self._patterns
            for match in pattern.finditer(plain)
            if match.end() > match.start()
        )
        spans: list[tuple[int, int]] = []
        for start, negative_end in starts:
            if not spans or start >= spans[-1][1]:
                spans.append((start, -negative_end))
        return spans

    def count(self, text: str) -> int:
        """How many marks an answer holds."""
        return len(self.spans(text))


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ConfigurationError(f"The pattern {pattern!r} cannot be read ({error}); mend it.") from error
