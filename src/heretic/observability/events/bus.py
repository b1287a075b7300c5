"""Event, the base of all payloads; passing events on to whoever listens; events of any run: start, end, warnings."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from heretic.common.redaction import without_secrets


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events.

    Attributes:
        is_step: Whether it says how far something is: these come often, and only whoever asks for them hears of them.
    """

    is_step: ClassVar[bool] = False

    def to_log(self) -> dict[str, Any]:
        """Its values by name, as a line of the log has them; payloads of results say which numbers those are."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


Handler = Callable[[Event], None]
_handlers: list[Handler] = []
_of_steps: list[Handler] = []


def emit(event: Event) -> None:
    """Pass an event to every subscriber, in the order of subscription; no secret gets that far.

    Raises:
        Exception: The first that a subscriber raised, once all have been served.
    """
    handlers = tuple(_of_steps if event.is_step else _handlers)
    if handlers:
        event = without_secrets(event)
    errors = []
    for handler in handlers:
        try:
            handler(event)
        except Exception as error:  # noqa: BLE001 - raised below, once the others have heard of the event
            errors.append(error)
    if errors:
        raise errors[0]


@contextmanager
def subscribed(handler: Handler, steps: bool = False) -> Iterator[None]:
    """Subscribe for the duration of a with-block; also to how far things are where `steps` are wanted."""
    lists = (_handlers, _of_steps) if steps else (_handlers,)
    for handlers in lists:
        handlers.append(handler)
    try:
        yield
    finally:
        for handlers in lists:
            handlers.remove(handler)


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
