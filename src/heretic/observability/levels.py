"""How important an event is: decides what is shown and logged under ``--log-level``."""

import logging

from heretic.observability import events

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""The values of ``--log-level``."""

_DEBUG = (events.ResponseMeasured, events.GradientStep)
_WARNING = (events.Warned, events.DtypeRejected, events.MemoryRanOut, events.TrialRaised)


def level_of(event: events.Event) -> int:
    """A level of the standard library's logging."""
    if isinstance(event, events.LibraryLogged):
        level = logging.getLevelName(event.level.upper())
        # Levels of a library's own have no name here.
        return level if isinstance(level, int) else logging.INFO
    if isinstance(event, events.RunEnded):
        return logging.ERROR if event.error else logging.INFO
    if isinstance(event, _DEBUG):
        return logging.DEBUG
    return logging.WARNING if isinstance(event, _WARNING) else logging.INFO
