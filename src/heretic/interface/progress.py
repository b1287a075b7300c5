"""The search's progress: best trial so far, remaining time, and one ASCII bar at the bottom of a terminal."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from heretic.interface.formatting import clean_line, clock, kl_text
from heretic.observability.events import GradientStep
from heretic.results import words
from heretic.results.front import Standing

_PACE_TRIALS = 30


class Progress(Protocol):
    """What a bar shows."""

    @property
    def finished(self) -> int:
        """How much is done."""

    @property
    def total(self) -> int:
        """Of how much."""

    def summary(self) -> str:
        """Everything but the bar."""


class SearchProgress:
    """Counts trials and estimates the remaining time from the pace of the last ones.

    The pace is wall-clock time per trial, so it holds for candidates that are measured together and finish together.

    Attributes:
        standing: Where the search stands.
    """

    def __init__(self, standing: Standing, now: Callable[[], float]) -> None:
        self.standing = standing
        self._now = now
        self._started = now()
        self._ends: deque[float] = deque([self._started], maxlen=_PACE_TRIALS + 1)

    @property
    def finished(self) -> int:
        """Measured trials, those of an earlier run included."""
        return self.standing.finished

    @property
    def total(self) -> int:
        """Trials wanted."""
        return self.standing.n_trials

    def trial_finished(self, standing: Standing) -> None:
        """Look at the clock after a trial; a failed one costs time but brings the end no nearer."""
        if standing.finished > self.standing.finished:
            self._ends.append(self._now())
        self.standing = standing

    @property
    def elapsed(self) -> float:
        """Seconds since the search began."""
        return self._now() - self._started

    @property
    def remaining(self) -> float | None:
        """Seconds until the last trial, or None before the first is complete; counts down between trials."""
        if len(self._ends) < 2:
            return None
        pace = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        end = self._ends[-1] + pace * max(self.total - self.finished, 0)
        return max(end - self._now(), 0.0)

    def summary(self) -> str:
        """Everything but the bar, e.g. ``12/40  best 3/100 at KL 0.0123  0:21 elapsed, 0:48 left``."""
        count = f"{self.finished:{len(str(self.total))}d}/{self.total}"
        remaining, best = self.remaining, self.standing.best
        times = f"{clock(self.elapsed)} elapsed"
        if remaining is not None:
            times += f", {clock(remaining)} left"
        return "  ".join([count, *([] if best is None else [words.best(best.measured)]), times])


class GradientProgress:
    """Steps by gradient.

    Attributes:
        finished: Steps done.
        total: Steps in all.
    """

    def __init__(self, total: int) -> None:
        self.finished = 0
        self.total = total
        self._text = ""

    def step(self, event: GradientStep) -> None:
        """Count one."""
        self.finished = event.step
        self._text = f"  weight {event.weight:.2g}, KL {kl_text(event.kl)}, onset {100 * event.share:.0f} %"

    def summary(self) -> str:
        """Everything but the bar."""
        return f"step {self.finished:{len(str(self.total))}d}/{self.total}{self._text}"


def bar_line(progress: Progress, width: int) -> str:
    """The bar and the summary in at most `width` columns; a narrow terminal loses the bar first."""
    summary = progress.summary()
    room = width - len(summary) - len("[]  ")
    if room < 4:
        return summary[:width]
    room = min(room, 40)
    done = room * min(progress.finished, progress.total) // max(progress.total, 1)
    return f"[{'#' * done}{'-' * (room - done)}]  {summary}"


class ProgressBar:
    """The bar of a running search at the bottom of a terminal; other lines scroll above it."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._progress = progress
        self._console = console
        # Twice a second is enough for a clock of seconds, and leaves the interpreter lock to the search.
        self._live = Live(console=console, get_renderable=self.line, refresh_per_second=2, transient=True)

    def line(self) -> Text:
        """What is shown."""
        # One column stays free: a full last column makes some terminals wrap.
        return Text(clean_line(bar_line(self._progress, self._console.width - 1)), no_wrap=True, overflow="crop")

    def start(self) -> None:
        """Show the bar."""
        self._live.start(refresh=True)

    def refresh(self) -> None:
        """Show the present numbers now."""
        self._live.refresh()

    def stop(self) -> None:
        """Take the bar away and show the cursor again."""
        self._live.stop()
