"""LogFile: the run's events as JSON lines, one a step.

Every line has `timestamp` (UTC), `level`, `event`, `pid`, the event's own fields, and `memory` (bytes by place).
"""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from heretic.common.errors import UserError
from heretic.common.output import escaped_in_json
from heretic.observability.events import Event, Warned, emit
from heretic.observability.fields import LEVELS, event_fields, event_name, level_of, worker_name

Clean = Callable[[Any], Any]
"""Takes secrets out of a JSON value."""
Memory = Callable[[], Mapping[str, Mapping[str, int]]]
"""See `heretic.models.memory.memory_use`."""

_METHODS = {number: name for name, number in LEVELS.items()}


class LogFile:
    """Appends to a file; subscribe it with `events.subscribed`.

    A line is written by one system call, so that runs may share a file. Once the run is on its way, a file that cannot
    be written any more (a full disk) is said once and tried again with every line: nothing is lost but the log.
    """

    def __init__(self, path: Path, level: str, clean: Clean, memory: Memory) -> None:
        """Open the file.

        Args:
            path: Made where there is none.
            level: Least important level that is written, out of LEVELS.
            clean: Applied to all fields.
            memory: Asked for every line that has no memory of its own.

        Raises:
            UserError: It cannot be written.
        """
        self._path = path
        self._level = LEVELS[level]
        self._memory = memory
        self._lock = threading.Lock()
        self._torn = self._failed = False
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(path.expanduser(), flags, 0o644)
        except (OSError, ValueError, RuntimeError) as error:  # also a NUL character, no home folder
            raise _unusable(path, error) from error
        processors: list[structlog.typing.Processor] = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            lambda _logger, _method, fields: clean(dict(fields)),
            _ordered,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
        self._logger: Any = structlog.wrap_logger(
            _Lines(self._write), processors=processors, wrapper_class=structlog.BoundLogger, pid=os.getpid()
        )
        try:
            # A full disk is better said now than after the model was loaded.
            os.write(self._descriptor, b"")
            self._logger.info("log_opened", log_level=level, worker=worker_name())
        except OSError as error:
            os.close(self._descriptor)
            raise _unusable(path, error) from error

    def __enter__(self) -> "LogFile":
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self._descriptor)

    def __call__(self, event: Event) -> None:
        """Write one event, unless it is less important than the level."""
        level = level_of(event)
        if level < self._level:
            return
        fields = event_fields(event)
        fields.setdefault("memory", self._memory())
        # Two names of a line are taken: a library's level is that of its line.
        fields.pop("level", None)
        method = getattr(self._logger, _METHODS[min(max(level // 10 * 10, LEVELS["debug"]), LEVELS["error"])])
        try:
            method(event_name(event), **fields)
        except OSError as error:
            self._say_once(error)

    def _write(self, line: str) -> None:
        data = escaped_in_json(line).encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            if self._torn:
                data = b"\n" + data
            written = os.write(self._descriptor, data)
            while written < len(data):
                # Only part of it found room.
                self._torn = True
                written += os.write(self._descriptor, data[written:])
            self._torn = False

    def _say_once(self, error: OSError) -> None:
        if self._failed:
            return
        self._failed = True
        emit(Warned(f"The log file {self._path} cannot be written any more ({error.strerror}); the run goes on."))


class _Lines:
    """What structlog writes to: every level is a line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = write


def _ordered(_logger: Any, _method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What every line has comes first, and memory last, so that lines can be read."""
    first = {name: fields.pop(name) for name in ("timestamp", "level", "event", "pid") if name in fields}
    memory = {"memory": fields.pop("memory")} if "memory" in fields else {}
    return {**first, **fields, **memory}


def _unusable(path: Path, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(f"The log file {path} cannot be written ({reason}); name another one with --log-file.")
