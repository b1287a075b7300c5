"""When a search that may take only so long stops asking for trials."""

import time
from collections import deque
from collections.abc import Callable

REMEMBERED = 8
"""Batches of which the longest says how long the next one may take: single trials differ, and speed changes."""


class Deadline:
    """The time that a search has."""

    def __init__(self, end: float, now: Callable[[], float] = time.monotonic) -> None:
        """Know when it is over.

        Args:
            end: By the clock, in seconds.
            now: The clock.
        """
        self._end = end
        self._now = now
        self._batches: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def left(self) -> float:
        """Seconds; below zero where it is over."""
        return self._end - self._now()

    @property
    def allows(self) -> bool:
        """Whether one more batch ends in time; the first is measured in any case, or a run would show nothing."""
        return not self._batches or max(self._batches) <= self.left

    def took(self, seconds: float) -> None:
        """A batch took so long."""
        self._batches.append(seconds)
