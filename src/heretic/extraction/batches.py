"""Which prompts a gradient step looks at."""

from collections.abc import Sequence

BATCH = 8
"""Good prompts of a step, and bad ones."""


class Batches:
    """Rows in turn, each as often as any other."""

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = list(rows)
        self._place = 0

    def next(self) -> list[int]:
        """The next rows."""
        size = min(BATCH, len(self._rows))
        found = [self._rows[(self._place + offset) % len(self._rows)] for offset in range(size)]
        self._place = (self._place + size) % len(self._rows)
        return found
