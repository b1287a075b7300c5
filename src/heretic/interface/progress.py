"""Steps: how far a long step is. In a terminal a bar with the remaining time stands below all other lines."""

import math
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from heretic.common.output import printable
from heretic.interface.formatting import clean_line, clock

_BAR_WIDTH = 40


class Steps:
    """Counts the steps of something long; use it as a context manager, or call `start` and `stop`.

    The pace is the mean since the beginning, so it holds for steps that are done together.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        done: int = 0,
        text: str = "",
        count: Callable[[int, int], str] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin.

        Args:
            console: Where the bar stands, if it is a terminal; elsewhere nothing is shown.
            total: Steps in all.
            done: Steps that an earlier run did.
            text: What is said beside the count.
            count: How (steps done, steps in all) are told; None tells both numbers.
            now: A clock, in seconds.
        """
        self._count = count if count is not None else _of
        # Twice a second is enough for a clock of seconds, and leaves the interpreter lock to the work.
        self._progress = Progress(
            # What wraps is what a narrow terminal loses first.
            BarColumn(_BAR_WIDTH),
            _Summary(self),
            console=console,
            refresh_per_second=2,
            speed_estimate_period=math.inf,
            transient=True,
            get_time=now,
            disable=not console.is_interactive,
        )
        self._id = self._progress.add_task("", total=total, completed=done, text=text, at=0.0)
        # The pace is measured from here.
        self._progress.advance(self._id, 0)

    def __enter__(self) -> "Steps":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Show the bar."""
        self._progress.start()

    def stop(self) -> None:
        """Take the bar away and show the cursor again."""
        if not self._progress.disable:
            self._progress.stop()

    def reached(self, done: int, text: str = "") -> None:
        """So many steps are done; one that failed costs time but brings the end no nearer."""
        task = self._task
        at = task.elapsed if done > task.completed else task.fields["at"]
        self._progress.update(self._id, completed=done, text=text, at=at)

    @property
    def _task(self) -> Task:
        return self._progress.tasks[0]

    @property
    def remaining(self) -> float | None:
        """Seconds until the last step, None before the first is done; counts down between steps."""
        task = self._task
        if task.time_remaining is None:
            return None
        since: float = (task.elapsed or 0.0) - task.fields["at"]
        return max(task.time_remaining - since, 0.0)

    def summary(self) -> str:
        """Everything but the bar, e.g. ``12/40  best 3/100 at KL 0.0123  0:21 elapsed, 0:48 left``."""
        task, remaining = self._task, self.remaining
        left = "" if remaining is None else f", {clock(remaining)} left"
        parts = [self._count(int(task.completed), int(task.total or 0)), task.fields["text"]]
        text = "  ".join([*filter(None, parts), f"{clock(task.elapsed or 0.0)} elapsed{left}"])
        return printable(clean_line(text), self._progress.console.encoding)


class _Summary(ProgressColumn):
    """See Steps.summary."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(Column(no_wrap=True, overflow="crop"))
        self._steps = steps

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        return Text(self._steps.summary())


def _of(done: int, total: int) -> str:
    return f"{done:{len(str(total))}d}/{total}"
