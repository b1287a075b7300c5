"""Ctrl+C once ends after the running trial; twice stops at once."""

import signal
import threading
from types import FrameType

from heretic.observability.events import Warned, emit


class InterruptGuard:
    """While entered, the first SIGINT only sets `requested`; the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: object = None

    def __enter__(self) -> "InterruptGuard":
        # Signal handlers can only be set in the main thread; elsewhere there is no Ctrl+C to guard against.
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_exception: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]  # what signal.signal returned

    def _handle(self, _signal_number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        emit(Warned("Stopping after this trial; press Ctrl+C again to stop at once."))
