"""Events of where a search starts: stored plans."""

from dataclasses import dataclass

from heretic.observability.events.event import Event


@dataclass(frozen=True, slots=True)
class WarmStarted(Event):
    """The first trials are plans of profiles for the model's family: so many of the user's own, and shipped ones."""

    family: str
    own: int
    shipped: int


@dataclass(frozen=True, slots=True)
class ProfilesKept(Event):
    """So many of a finished study's best plans were added to the user's profile store."""

    path: str
    family: str
    count: int
