"""Ctrl+C, SIGTERM or SIGHUP once ends after the running trials; Ctrl+C or SIGTERM twice stops at once."""

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType

from heretic.common.errors import Terminated
from heretic.observability.events import Warned, emit

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_Previous = Callable[[int, FrameType | None], object] | int


class InterruptGuard:
    """While entered, the first signal only sets `requested` and is acknowledged; a further one stops at once.

    SIGHUP comes when a terminal or its connection is gone, often twice, and never stops at once. Where a program was
    started with SIGTERM or SIGHUP ignored (nohup), these stay ignored.

    It raises KeyboardInterrupt, or Terminated where it is a SIGTERM (which machines on spot markets get before they are
    taken away).

    A signal handler runs in the middle of whatever the main thread does, e.g. of a subscriber that prints. So it never
    emits: a thread of its own does, at once, because a trial may go on for minutes.

    Leaves signals alone outside the main thread, where no handler can be set, and where a program that embeds Python
    handles them: its handler could not be put back.

    Attributes:
        requested: Whether the search shall end.
        terminated: Whether a SIGTERM or SIGHUP asked for it.
    """

    def __init__(self) -> None:
        self.requested = False
        self.terminated = False
        self._previous: dict[signal.Signals, _Previous] = {}
        self._acknowledging: threading.Thread | None = None
        # The one queue that a signal handler may put into while the same thread uses it.
        self._presses: SimpleQueue[signal.Signals | None] = SimpleQueue()

    def __enter__(self) -> "InterruptGuard":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _SIGNALS:
            previous = signal.getsignal(number)
            # None: the handler was not installed from Python.
            if previous is not None and (previous != signal.SIG_IGN or number == signal.SIGINT):
                self._previous[number] = previous
        if self._previous:
            self._acknowledging = threading.Thread(target=self._acknowledge, name="interrupt", daemon=True)
            self._acknowledging.start()
            for number in self._previous:
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._acknowledging is None:
            return
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._presses.put(None)
        self._acknowledging.join()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            if number == signal.SIGTERM:
                raise Terminated
            return
        self.requested, self.terminated = True, number != signal.SIGINT
        self._presses.put(signal.Signals(number))

    def _acknowledge(self) -> None:
        number = self._presses.get()
        if number == signal.SIGINT:
            emit(Warned("Stopping after this trial; press Ctrl+C again to stop at once."))
        elif number is not None:
            emit(Warned(f"{number.name}: stopping after the running trials, which are kept."))
