"""Event, the base of all payloads, and passing events on to whoever listens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from heretic.common.redaction import without_secrets


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""

    def to_log(self) -> dict[str, Any]:
        """Its values by name, as a line of the log has them; payloads of results say which numbers those are."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


Handler = Callable[[Event], None]
_handlers: list[Handler] = []


def emit(event: Event) -> None:
    """Pass an event to every subscriber, in the order of subscription; no secret gets that far.

    Raises:
        Exception: The first that a subscriber raised, once all have been served.
    """
    if _handlers:
        event = without_secrets(event)
    errors = []
    for handler in tuple(_handlers):
        try:
            handler(event)
        except Exception as error:  # noqa: BLE001 - raised below, once the others have heard of the event
            errors.append(error)
    if errors:
        raise errors[0]


@contextmanager
def subscribed(handler: Handler) -> Iterator[None]:
    """Subscribe for the duration of a with-block."""
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)
