"""Rows: what the console says about an event; modules of lines register here, each for the events of its concern."""

from dataclasses import dataclass
from functools import singledispatch

from heretic.observability.events import Event


@dataclass(frozen=True, slots=True)
class Row:
    """One fact: the label stands in the left column, empty where the row goes on with the label above."""

    label: str
    text: str


@singledispatch
def rows(event: Event) -> list[Row]:
    """The rows of an event; empty for events that the console shows in another way or not at all."""
    return []
