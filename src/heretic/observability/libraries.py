"""What libraries log and warn of becomes events, so that it reaches the log file and never garbles a progress bar."""

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TextIO

from heretic.observability.events import LibraryLogged, emit
from heretic.observability.fields import LEVELS
from heretic.observability.steps import counted

LIBRARIES = ("transformers", "datasets", "huggingface_hub", "optuna", "torch", "accelerate", "peft")
"""Libraries whose loggers may have handlers of their own, which write to the terminal.

Not SQLAlchemy: what it calls information are the values of every statement.
"""

_MOST_REMEMBERED = 10_000

PYTHON_WARNINGS = "py.warnings"


def quieten(library: str) -> None:
    """Keep a library's warnings out of the terminal, where it writes there itself; other handlers still get them."""
    for handler in logging.getLogger(library).handlers:
        if isinstance(handler, logging.StreamHandler) and handler.level < logging.ERROR:
            handler.setLevel(logging.ERROR)


@contextmanager
def captured_libraries(level: str) -> Iterator[None]:
    """Emit LibraryLogged for all that is logged and warned of in the with-block, instead of having it printed.

    Warnings and worse; at the level debug also what libraries call information. What is said again is left out: some
    warn in every call.
    """
    said = _Said()
    handler = _EventHandler(said)
    root = logging.getLogger()
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger, list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    show = warnings.showwarning
    for logger in loggers:
        logger.handlers = [other for other in logger.handlers if not isinstance(other, logging.StreamHandler)]
        logger.propagate = True
        if LEVELS[level] <= logging.DEBUG:
            logger.setLevel(logging.INFO)
    root.addHandler(handler)
    warnings.showwarning = said.warning
    try:
        yield
    finally:
        warnings.showwarning = show
        root.removeHandler(handler)
        for logger, handlers, propagate, level_before in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level_before)


@contextmanager
def counted_bars(unit: str) -> Iterator[None]:
    """In the with-block, loops that transformers would show a bar of count in the innermost step instead."""
    from transformers.utils.logging import set_tqdm_hook

    def bar(_make: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> "_Bar":
        return _Bar(options.get("iterable", arguments[0] if arguments else ()), options.get("total"), unit)

    before = set_tqdm_hook(bar)
    try:
        yield
    finally:
        set_tqdm_hook(before)


class _Bar:
    """Stands in for a bar of tqdm."""

    def __init__(self, items: Any, total: int | None, unit: str) -> None:
        self._items = items
        self._total = len(items) if total is None and isinstance(items, Sized) else total or 0
        self._unit = unit

    def __iter__(self) -> Iterator[Any]:
        return counted(self._items, self._total, self._unit)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_arguments, **_options: None


class _Said:
    """Emits what was not said before."""

    def __init__(self) -> None:
        self._before: set[tuple[str, str]] = set()
        self._busy = threading.local()

    def say(self, library: str, level: str, message: str) -> None:
        """Emit it; what a subscriber logs or warns of meanwhile would come back here without end."""
        if getattr(self._busy, "now", False) or (library, message) in self._before:
            return
        if len(self._before) < _MOST_REMEMBERED:
            self._before.add((library, message))
        self._busy.now = True
        try:
            emit(LibraryLogged(library, level, message))
        finally:
            self._busy.now = False

    def warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Stands in for `warnings.showwarning`."""
        self.say(PYTHON_WARNINGS, "warning", f"{category.__name__}: {message} ({filename}:{lineno})")


class _EventHandler(logging.Handler):
    def __init__(self, said: _Said) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        """Emit the record as an event."""
        try:
            text = self.format(record)
        except (TypeError, ValueError):
            # The library's own mistake: its arguments do not fit its text.
            text = str(record.msg)
        self._said.say(record.name, record.levelname.lower(), text)
