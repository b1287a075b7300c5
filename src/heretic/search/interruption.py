"""Ctrl+C once ends after the running trial; twice stops at once."""

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType

from heretic.observability.events import Warned, emit

_Previous = Callable[[int, FrameType | None], object] | int


class InterruptGuard:
    """While entered, the first SIGINT only sets `requested` and is acknowledged; the second raises KeyboardInterrupt.

    A signal handler runs in the middle of whatever the main thread does, e.g. of a subscriber that prints. So it never
    emits: a thread of its own does, at once, because a trial may go on for minutes.

    Leaves SIGINT alone outside the main thread, where no handler can be set, and where a program that embeds Python
    handles it: its handler could not be put back.

    Attributes:
        requested: Whether Ctrl+C was pressed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: _Previous | None = None
        self._acknowledging: threading.Thread | None = None
        # The one queue that a signal handler may put into while the same thread uses it.
        self._presses: SimpleQueue[bool] = SimpleQueue()

    def __enter__(self) -> "InterruptGuard":
        if threading.current_thread() is not threading.main_thread():
            return self
        # None: the handler was not installed from Python.
        self._previous = signal.getsignal(signal.SIGINT)
        if self._previous is not None:
            self._acknowledging = threading.Thread(target=self._acknowledge, name="interrupt", daemon=True)
            self._acknowledging.start()
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._previous is None or self._acknowledging is None:
            return
        signal.signal(signal.SIGINT, self._previous)
        self._presses.put(False)
        self._acknowledging.join()

    def _handle(self, _signal_number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._presses.put(True)

    def _acknowledge(self) -> None:
        if self._presses.get():
            emit(Warned("Stopping after this trial; press Ctrl+C again to stop at once."))
