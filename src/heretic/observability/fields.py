"""From any event to its name, its level and plain fields, so that the log needs to know none of them."""

import logging
import math
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from secrets import token_hex
from typing import Any

from heretic.observability import events
from heretic.observability.events import Event

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""The values of ``--log-level``."""

_DEBUG = (events.ResponseMeasured, events.GradientStep, events.StepAdvanced)
_WARNING = (events.Warned, events.NothingShown, events.DtypeRejected, events.MemoryRanOut, events.TrialRaised)

LONGEST_TEXT = 2000
"""Characters of a text that are kept."""
LONGEST_SEQUENCE = 24
"""Entries of a sequence that are kept."""
_LONGEST_TRACEBACK = 20_000

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def worker_name() -> str:
    """What this process is called among those that work on one study: its machine, and what no other one has."""
    return _named(os.getpid())


@cache
def _named(pid: int) -> str:
    # Containers may share a machine's name, and number their processes alike.
    return f"{socket.gethostname()}-{pid}-{token_hex(2)}"


def level_of(event: Event) -> int:
    """How important an event is, as a level of the standard library's logging: what ``--log-level`` goes by."""
    if isinstance(event, events.LibraryLogged):
        level = logging.getLevelName(event.level.upper())
        # Levels of a library's own have no name here.
        return level if isinstance(level, int) else logging.INFO
    if isinstance(event, events.RunEnded):
        return logging.ERROR if event.error else logging.INFO
    if isinstance(event, _DEBUG):
        return logging.DEBUG
    return logging.WARNING if isinstance(event, _WARNING) else logging.INFO


def event_name(event: object) -> str:
    """``TrialFinished`` -> ``trial_finished``."""
    return _WORD.sub("_", type(event).__name__).lower()


def event_fields(event: Event) -> dict[str, Any]:
    """The values of an event as JSON values, see `plain`."""
    # A traceback is long, and its end tells most.
    values = event.to_log()
    traceback = values.pop("traceback", "")
    result = {name: plain(value) for name, value in values.items()}
    return {**result, "traceback": traceback[-_LONGEST_TRACEBACK:]} if traceback else result


def plain(value: Any) -> Any:
    """A value as JSON: long texts are cut, long sequences summarised, numbers that JSON does not know become null.

    Tensors and arrays give their shape.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]} ... ({len(value)} characters)"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return {"shape": [int(size) for size in value.shape], "dtype": str(value.dtype)}
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray)):
        return _sequence(list(value))
    return plain(str(value))


def _sequence(values: list[Any]) -> Any:
    if len(values) <= LONGEST_SEQUENCE:
        return [plain(value) for value in values]
    numbers = [value for value in values if isinstance(value, (int, float)) and math.isfinite(value)]
    summary: dict[str, Any] = {"length": len(values)}
    if len(numbers) == len(values):
        return {**summary, "min": min(numbers), "mean": math.fsum(numbers) / len(numbers), "max": max(numbers)}
    return {**summary, "first": [plain(value) for value in values[:LONGEST_SEQUENCE]]}
