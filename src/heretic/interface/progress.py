"""Steps: how far what a run does is. In a terminal a bar with the remaining time stands below all other lines."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from heretic.common.output import printable
from heretic.interface.formatting import clean_line, clock, plural, size
from heretic.observability.events import Event, StepEnded, StepEvent, StepGoesOn, StepStarted

_BAR_WIDTH = 40


class Steps:
    """Shows the innermost of the steps that run; subscribe it with `events.subscribed`, and `stop` it in the end.

    Only terminals get a bar, whose own thread keeps the times moving while a single batch takes long; elsewhere a line
    says from time to time how far it is.

    Args:
        console: Where the bar stands.
        line: Prints a line where there is no bar.
        now: The clock.
    """

    def __init__(
        self, console: Console, line: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._line = line
        self._now = now
        self._bar: Progress | None = None
        self._running: list[tuple[tuple[str, ...], TaskID]] = []

    def __enter__(self) -> "Steps":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __call__(self, event: Event) -> None:
        """Show what an event says of a step; events of other kinds are let pass."""
        if not isinstance(event, StepEvent):
            return
        if not self._console.is_interactive:
            if isinstance(event, StepGoesOn):
                self._line(summary(event, event.elapsed, event.remaining))
            return
        path = (*event.within, event.doing)
        if isinstance(event, StepStarted):
            self._begin(path, event)
            return
        place = next((place for place, (other, _task) in enumerate(self._running) if other == path), None)
        if self._bar is None or place is None:
            return
        task = self._running[place][1]
        if isinstance(event, StepEnded):
            self._end(place)
        else:
            at = self._now()
            self._bar.update(task, total=event.total or None, completed=event.done, event=event, at=at)

    def stop(self) -> None:
        """Take the bar away and show the cursor again; harmless when there is none."""
        while self._running:
            self._end(0)

    def _begin(self, path: tuple[str, ...], event: StepEvent) -> None:
        if self._bar is None:
            # Twice a second is enough for a clock of seconds, and leaves the interpreter lock to the work.
            self._bar = Progress(
                # What wraps is what a narrow terminal loses first.
                BarColumn(_BAR_WIDTH),
                _Summary(self._console.encoding),
                console=self._console,
                refresh_per_second=2,
                transient=True,
                # What is led elsewhere is meant to go there.
                redirect_stderr=sys.stderr.isatty(),
                get_time=self._now,
            )
        for _path, other in self._running:
            self._bar.update(other, visible=False)
        task = self._bar.add_task("", total=event.total or None, completed=event.done, event=event, at=self._now())
        self._running.append((path, task))
        self._bar.start()

    def _end(self, place: int) -> None:
        _path, task = self._running.pop(place)
        if self._bar is None:
            return
        if self._running:
            self._bar.remove_task(task)
            self._bar.update(self._running[-1][1], visible=True)
        else:
            self._bar.stop()
            self._bar = None


def summary(event: StepEvent, elapsed: float, remaining: float | None) -> str:
    """A step on one line, e.g. ``searching  12/40 trials  best 3/100 at KL 0.0123  0:21 elapsed, 0:48 left``."""
    count = ""
    if event.total and event.unit == "bytes":
        count = f"{size(event.done)} of {size(event.total)}"
    elif event.total:
        count = f"{event.done:{len(str(event.total))}d}/{event.total} {event.unit}"
    elif event.done:
        count = plural(event.done, event.unit.removesuffix("s"))
    left = "" if remaining is None else f", {clock(remaining)} left"
    return clean_line("  ".join([*filter(None, (event.doing, count, event.text)), f"{clock(elapsed)} elapsed{left}"]))


class _Summary(ProgressColumn):
    """See `summary`; times go on between events."""

    def __init__(self, encoding: str) -> None:
        super().__init__(Column(no_wrap=True, overflow="crop"))
        self._encoding = encoding

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        event, since = task.fields["event"], task.get_time() - task.fields["at"]
        remaining = None if event.remaining is None else max(event.remaining - since, 0.0)
        return Text(printable(summary(event, event.elapsed + since, remaining), self._encoding))
