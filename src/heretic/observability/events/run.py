"""Events of any run: its start and end, warnings, memory."""

from collections.abc import Mapping
from dataclasses import dataclass

from heretic.observability.events.bus import Event


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """First line of a run: which settings it runs with. `profile` names a built-in set of defaults, e.g. ``demo``."""

    version: str
    model: str
    configuration_file: str | None
    profile: str | None
    changed_settings: Mapping[str, str]
    """Settings that differ from the defaults, as text, with the source: ``n_trials -> "60 (command line)"``."""


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something the user should know, in one sentence."""

    message: str


@dataclass(frozen=True, slots=True)
class LibraryLogged(Event):
    """A library logged something, or warned as Python does (library ``py.warnings``); `level` in small letters."""

    library: str
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class MemoryRanOut(Event):
    """An allocation failed. What was being done is tried with less, or fails with a message of its own.

    `memory` is what was used by then: place (``host``, ``cuda:0``, ...) to amounts, see `heretic.models.memory`.
    """

    doing: str
    memory: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """Last event of a run. `error` is the message where one ended it, with the traceback of an unforeseen one."""

    exit_code: int
    seconds: float
    error: str = ""
    traceback: str = ""
