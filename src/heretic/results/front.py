"""The Pareto front and the automatic choice on it: pure functions of trial records."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from heretic.common.errors import SelectionError
from heretic.config.sections.search import is_open
from heretic.results.trial import TrialRecord

T = TypeVar("T")

DIVERGENCE_LIMITS = (0.001, 0.5)
"""Where differences in KL, in nats, are looked at: less is noise, more is another model."""
FEW = (0.5, 0.1, 0.0)
"""Shares of the original model's behaviour at which fronts are compared."""


def _no_worse(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(first, second, strict=True))


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether the first is nowhere worse and somewhere better; lower is better."""
    return _no_worse(first, second) and tuple(first) != tuple(second)


def non_dominated(points: Sequence[Sequence[float]]) -> list[int]:
    """Places of the points that no other dominates, sorted by value; of equal ones the first."""
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: tuple(points[place])):
        # Whatever dominates a point sorts before it; of two numbers it is the last of the front, if any.
        if not any(_no_worse(points[other], points[place]) for other in reversed(front)):
            front.append(place)
    return front


def pareto_front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials that may be chosen and no other dominates, sorted by value (behaviour first); of equal ones the first."""
    complete = sorted((record for record in records if record.may_be_chosen), key=lambda record: record.number)
    return [complete[place] for place in non_dominated([record.values for record in complete])]


@dataclass(frozen=True, slots=True)
class Front:
    """The Pareto front of a growing study: a further trial is compared with the front alone, and only once.

    Attributes:
        records: What `pareto_front` finds among the trials so far, where they came in the order of their numbers.
    """

    records: tuple[TrialRecord, ...] = ()

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> "Front":
        """The front of these trials."""
        return cls(tuple(pareto_front(records)))

    def with_trial(self, record: TrialRecord) -> "Front":
        """The front with one more trial; itself where that has no place on it."""
        values = record.values
        if not record.may_be_chosen or any(_no_worse(member.values, values) for member in self.records):
            return self
        undominated = [member for member in self.records if not _no_worse(values, member.values)]
        return Front(tuple(sorted([*undominated, record], key=lambda member: member.values)))


def chosen_automatically(
    records: Sequence[TrialRecord], value: Callable[[TrialRecord], float] | None = None
) -> TrialRecord:
    """The automatic choice: the trial of the lowest value where one number is minimised, else the knee of the front.

    Raises:
        SelectionError: No trial is complete.
    """
    front = pareto_front(records)
    return knee(records) if value is None or not front else min(front, key=value)


def knee(records: Sequence[TrialRecord]) -> TrialRecord:
    """The point of the front nearest to "goal reached, no divergence".

    Distance is Euclidean with every behaviour as a share of the original model's and KL in nats, so one nat of
    divergence weighs as much as all of a behaviour. The scales are fixed: a far-off trial at one end of the front does
    not move the choice.

    Raises:
        SelectionError: No trial is complete.
    """
    front = pareto_front(records)
    if not front and any(record.scores is not None and not record.scores.is_allowed for record in records):
        raise SelectionError(
            "No trial leaves enough of what has to stay; run more trials (--n-trials), or ask for less "
            "(--keep-at-least)."
        )
    if not front:
        raise SelectionError("No trial was finished, so there is nothing to choose; run more trials (--n-trials).")

    def distance(record: TrialRecord) -> float:
        return math.hypot(*(score.share for score in record.measured.minimised[:-1]), record.kl.value)

    return min(front, key=distance)


def least(records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial with the least of all behaviours, then the lowest KL; shares of several behaviours add up."""
    return min(records, key=lambda record: (record.measured.share, record.kl.value), default=None)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a search stands.

    Attributes:
        finished: Measured trials, stopped ones included.
        n_trials: How many of these are wanted; `OPEN_TRIALS` for as many as there is time for.
        best: See `least`, of all complete trials; None before the first.
        lowest_kl: Likewise.
    """

    finished: int
    n_trials: int
    best: TrialRecord | None = None
    lowest_kl: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the time ends the search, and no number of trials."""
        return is_open(self.n_trials)

    @classmethod
    def of(cls, front: Front, finished: int, n_trials: int) -> "Standing":
        """With the best of a front, which are the best of all."""
        lowest = min((record.kl.value for record in front.records), default=None)
        return cls(finished, n_trials, least(front.records), lowest)


def hypervolume(
    points: Sequence[tuple[float, float]], baseline: float, limits: tuple[float, float] = DIVERGENCE_LIMITS
) -> float:
    """How good a set of results is: the share of a box, with the logarithm of divergence, that its front dominates.

    In KL itself the box would be full as soon as some edit is mild, and the rest of the front would hardly count.

    Args:
        points: (behaviour, KL in nats) of each trial.
        baseline: The original model's behaviour: the box's far end.
        limits: KL that counts as none, and the other far end, in nats.

    Returns:
        0 (nothing inside the box) to 1 (no behaviour without any divergence).
    """
    none, far = map(math.log, limits)
    volume, before = 0.0, far
    for amount, divergence in sorted(points):
        place = math.log(max(divergence, limits[0]))
        if place < before and amount < baseline:
            volume += (baseline - amount) / baseline * (before - place) / (far - none)
            # Further points of the front have more of the behaviour and less divergence.
            before = place
    return volume


def lowest_divergences(points: Sequence[tuple[float, float]], baseline: float) -> dict[float, float | None]:
    """The lowest KL of the trials that leave no more than a share of the behaviour, for each of `FEW`.

    Args:
        points: (behaviour, KL in nats) of each trial.
        baseline: The original model's behaviour.

    Returns:
        Share -> KL; None where no trial leaves so little.
    """
    return {
        share: min((divergence for amount, divergence in points if amount <= share * baseline), default=None)
        for share in FEW
    }


def evenly_spread(items: Sequence[T], count: int) -> Sequence[T]:
    """So many of the items, the first and the last among them; all where there are no more."""
    if len(items) <= count:
        return items
    return [items[place * (len(items) - 1) // (count - 1)] for place in range(count)]
