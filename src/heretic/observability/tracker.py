"""Trackers: programs of others that collect experiments; every trial of a run is sent to the one that is named."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from heretic.common.errors import HereticError, first_line
from heretic.common.registry import Registry
from heretic.observability import events
from heretic.observability.events import Event, Warned, emit
from heretic.results.plan import EditPlan
from heretic.results.trial import TrialRecord


class TrackingError(HereticError):
    """A tracker did not take what it was sent; the message says why, without a full stop."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a tracker is sent of one trial.

    Attributes:
        number: As people see it, from 1.
        parameters: The plan's.
        measured: Scores by name; none where it failed.
        state: How it ended, e.g. ``complete``.
        reason: Why it failed or was stopped.
        seconds: How long it took.
        on_front: Whether no earlier trial was better in everything.
    """

    number: int
    parameters: Mapping[str, float | str]
    measured: Mapping[str, float]
    state: str
    reason: str
    seconds: float
    on_front: bool

    @classmethod
    def of(cls, record: TrialRecord, on_front: bool) -> "Tracked":
        """The same of a finished trial."""
        scores = () if record.scores is None else tuple(record.scores)
        measured = {score.name: score.told for score in scores if score.is_known}
        state = record.state.outcome
        return cls(record.shown, _flat(record.plan), measured, state, record.reason, record.seconds, on_front)


@contextmanager
def refusals(*errors: type[Exception]) -> Iterator[None]:
    """In the with-block a tracker's own errors, and those of the system, become TrackingErrors."""
    kinds: tuple[type[Exception], ...] = (*errors, OSError)
    try:
        yield
    except kinds as error:
        raise TrackingError(first_line(error)) from error


class Tracker(Protocol):
    """A search in somebody's tracker. Methods raise TrackingError."""

    def trial(self, tracked: Tracked) -> None:
        """Add a trial."""

    def end(self, code: int) -> None:
        """The run is over, with this exit code."""


Open = Callable[[str, Mapping[str, str]], Tracker]
"""Begins a search (the study's name, facts about the run); raises TrackingError."""


@dataclass(frozen=True, slots=True)
class TrackerKind:
    """A tracker that can be named.

    Attributes:
        load: Imports what it needs; raises ImportError.
        package: What has to be installed for that.
    """

    load: Callable[[], Open]
    package: str


TRACKERS: Registry[TrackerKind] = Registry("tracker", "heretic.observability.trackers")


class Tracking:
    """Follows a run's events; subscribe it with `events.subscribed`.

    A tracker that fails is told of once and left alone from then on: it is no reason to lose a search.
    """

    def __init__(self, name: str, open_search: Open, redact: Callable[[str], str]) -> None:
        self._name = name
        self._open = open_search
        self._redact = redact
        self._facts: dict[str, str] = {}
        self._tracker: Tracker | None = None
        self._failed = False

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        if self._failed:
            return
        try:
            self._follow(event)
        except TrackingError as error:
            self._failed = True
            emit(Warned(f"{self._name} is sent nothing more ({error}); the run goes on without."))

    def _follow(self, event: Event) -> None:
        if isinstance(event, events.RunStarted):
            changed = {name: self._redact(text) for name, text in event.changed_settings.items()}
            self._facts = {"heretic": event.version, "model": self._redact(event.model), **changed}
        elif isinstance(event, events.StudyOpened) and self._tracker is None:
            self._tracker = self._open(event.name, self._facts)
        elif isinstance(event, events.TrialFinished) and self._tracker is not None and not event.of_another:
            # Other runs of the study send their own.
            self._tracker.trial(Tracked.of(event.record, event.on_front))
        elif isinstance(event, events.RunEnded) and self._tracker is not None:
            self._tracker.end(event.exit_code)


def _flat(plan: EditPlan) -> dict[str, float | str]:
    """The plan's numbers and words with names of their own, so that trackers can draw them."""
    flat: dict[str, float | str] = {"scope": plan.scope.value}
    if plan.direction_position is not None:
        flat["direction_position"] = plan.direction_position
    flat |= {f"share.{place}": share for place, share in enumerate(plan.shares)}
    for component, schedule in plan.to_json()["schedules"].items():
        flat |= {f"{component}.{name}": value for name, value in schedule.items()}
    return flat
