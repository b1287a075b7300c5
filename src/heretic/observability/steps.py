"""Steps: whatever may take long says when it begins, how far it is, and when it ends, so that no run is ever silent.

Loops count themselves in the innermost step, so that one that is opened far above them moves as well.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from heretic.observability.events import StepAdvanced, StepEnded, StepEvent, StepGoesOn, StepStarted, emit

T = TypeVar("T")
S = TypeVar("S", bound=StepEvent)

PACE_SAMPLES = 16
"""A pace is that of so many batches at most, the latest ones."""
SHORTEST_SAMPLE = 0.5
"""Seconds; batches that are shorter count together."""
TELL_SECONDS = 25.0
"""How often it is said that a step goes on: a log is never silent for half a minute."""


class Pace:
    """How fast something goes of late. What fails costs time and brings the end no nearer."""

    def __init__(self, now: float, done: int = 0) -> None:
        self._samples = deque([(now, done)], maxlen=PACE_SAMPLES + 1)

    def reached(self, now: float, done: int) -> None:
        """So many units are done after one more batch; `now` in seconds."""
        if len(self._samples) > 1 and now - self._samples[-2][0] < SHORTEST_SAMPLE:
            self._samples.pop()
        self._samples.append((now, done))

    @property
    def seconds(self) -> float | None:
        """Of one unit; None before the first is done."""
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        return (last - first) / (after - before) if after > before else None


class Step:
    """One step that runs; see `step`.

    Attributes:
        counts_itself: Whether it knew its units when it began; loops inside it are not counted then.
    """

    def __init__(
        self,
        doing: str,
        total: int | None,
        unit: str,
        done: int,
        text: str,
        left: Callable[[], float] | None,
        now: Callable[[], float],
    ) -> None:
        self._doing, self._within = doing, tuple(other._doing for other in _running)
        self._total, self._unit, self._done, self._text = total or 0, unit, done, text
        self._left, self._now = left, now
        self._started = now()
        self._lock = threading.Lock()
        self.counts_itself = total is not None
        self._pace = Pace(self._started, done)

    def expect(self, count: int, unit: str) -> None:
        """So many units more are to be done, of which nobody knew when the step began."""
        if self._unit != unit:
            self._done, self._total, self._pace = 0, 0, Pace(self._now())
        self._unit, self._total = unit, max(self._total, self._done) + count
        emit(self.told(StepAdvanced))

    def advance(self, count: int = 1, text: str = "") -> None:
        """So many units more are done; from any thread."""
        with self._lock:
            self.reached(self._done + count, text)

    def reached(self, done: int, text: str = "") -> None:
        """So many units are done in all."""
        self._done, self._text = done, text
        self._pace.reached(self._now(), done)
        emit(self.told(StepAdvanced))

    def told(self, kind: type[S]) -> S:
        """How far it is, as an event."""
        now, seconds = self._now(), self._pace.seconds
        ends = [] if seconds is None or not self._total else [seconds * max(self._total - self._done, 0)]
        ends += [] if self._left is None else [max(self._left(), 0.0)]
        counts = self._done, self._total, self._unit
        return kind(self._doing, self._within, *counts, self._text, now - self._started, min(ends, default=None))


_running: list[Step] = []
"""Steps belong to the process, like its terminal: outermost first."""


@contextmanager
def step(
    doing: str,
    total: int | None = None,
    unit: str = "",
    done: int = 0,
    text: str = "",
    left: Callable[[], float] | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Step]:
    """Do something that may take long in the with-block. Emits StepStarted, StepAdvanced and StepEnded.

    Args:
        doing: The same in words.
        total: How many units it has, 0 where nothing can be counted; None: as many as the loops inside it say.
        unit: What these are, in the plural.
        done: How many of them were done before.
        text: See StepEvent.
        left: Gives the seconds after which it ends, whatever is done by then.
        now: A clock, in seconds.
    """
    begun = Step(doing, total, unit, done, text, left, now)
    _running.append(begun)
    try:
        emit(begun.told(StepStarted))
        yield begun
    finally:
        _running.remove(begun)
        emit(begun.told(StepEnded))


def counted(items: Iterable[T], total: int, unit: str, size: Callable[[T], int] = lambda _item: 1) -> Iterator[T]:
    """The same items, counted as they are done with in the innermost step, if there is one that does not count itself.

    Args:
        items: Of one loop.
        total: Units of all of them together.
        unit: What these are, in the plural.
        size: Units of one item.
    """
    inside = None if not _running or _running[-1].counts_itself else _running[-1]
    if inside is not None:
        inside.expect(total, unit)
    for item in items:
        yield item
        if inside is not None:
            inside.advance(size(item))


def tell() -> None:
    """Emit StepGoesOn for what the run does at the moment, if that is known."""
    for innermost in _running[-1:]:
        emit(innermost.told(StepGoesOn))


@contextmanager
def telling(seconds: float = TELL_SECONDS) -> Iterator[None]:
    """In the with-block, `tell` every so many seconds, in a thread of its own: a single batch may take minutes."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            tell()

    thread = threading.Thread(target=watch, name="steps", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
