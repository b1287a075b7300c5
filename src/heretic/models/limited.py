"""Runs what a model's files bring along, such as its chat template, under a limit of time and memory."""

import importlib
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types

SECONDS = 2.0
"""Of the processor's time; a usual template takes a thousandth of one."""
MEMORY = 512 * 1024**2
"""Bytes beyond what the process has."""


class LimitReachedError(Exception):
    """The work took too long."""


class _Ended(BaseException):
    """The same on its way out: no `except Exception` of the work may stop it, as Jinja's optimiser would."""


@contextmanager
def limited(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """Limit what stands in the with-block, at the cost of some microseconds.

    Only in the main thread, where signals arrive, and not on Windows, which has neither; macOS does not limit memory.

    Args:
        seconds: Of the processor's time.
        memory: Bytes beyond what the process has.

    Raises:
        LimitReachedError: It took longer.
        MemoryError: It took more.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    with ExitStack() as undo:
        _limit_memory(memory, undo)

        def end(_signal: int, _frame: FrameType | None) -> None:
            raise _Ended

        undo.callback(signal.signal, signal.SIGVTALRM, signal.signal(signal.SIGVTALRM, end))
        before = signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            yield
        except _Ended as error:
            raise LimitReachedError(f"it takes more than {seconds:g} s") from error
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, *before)


def _limit_memory(memory: int, undo: ExitStack) -> None:
    limits: Any = importlib.import_module("resource")
    soft, hard = limits.getrlimit(limits.RLIMIT_AS)
    wanted = psutil.Process().memory_info().vms + memory
    if soft == limits.RLIM_INFINITY or wanted < soft:
        undo.callback(limits.setrlimit, limits.RLIMIT_AS, (soft, hard))
        limits.setrlimit(limits.RLIMIT_AS, (wanted if hard == limits.RLIM_INFINITY else min(wanted, hard), hard))
