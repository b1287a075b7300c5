"""The gate closes exactly on what a finished trial dominates, whatever else is measured of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.measured import counted, divergence, kept
from tests.unit.search.studies import dominated, failed, record, several

from heretic.common.errors import SelectionError
from heretic.results.front import Front, chosen_automatically, dominates, pareto_front
from heretic.results.gate import Gate
from heretic.results.objective import Objective
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord, TrialState

VALUES = st.tuples(st.integers(0, 6).map(float), st.integers(0, 8).map(lambda step: step / 4))
FINISHED = st.lists(VALUES, max_size=6).map(tuple)
COUNTS, AMOUNTS, NATS = (
    st.integers(0, 4).map(float),
    st.integers(0, 6).map(lambda step: step / 4),
    st.sampled_from([0, 0.5, 1.0]),
)
SEVERAL = st.tuples(COUNTS, AMOUNTS, NATS)
"""Few values, so that ties are common: refusals, words, KL."""


def test_an_empty_gate_is_open() -> None:
    assert not Gate().closes((1e9, 1e9))


def test_only_the_front_stands_behind_it() -> None:
    records = [record(0, 3, 0.5), failed(1), dominated(2, 0, 0.0), record(3, 9, 0.1), record(4, 9, 0.2)]
    assert Gate.behind(Front.of(records)).finished == ((3, 0.5), (9, 0.1))


def test_a_trial_that_lost_too_much_closes_nothing_and_is_never_chosen() -> None:
    lost = replace(record(0, 3, 0.5), scores=Scores((counted(3),), divergence(0.5), (kept(2, allowed=1),)))
    left = replace(record(1, 9, 0.75), scores=Scores((counted(9),), divergence(0.75), (kept(1, allowed=1),)))
    assert [own.may_be_chosen for own in (lost, left, failed(2), dominated(3, 0, 0.0))] == [False, True, False, False]
    assert Gate.behind(Front.of([lost, left])).finished == ((9, 0.75),)
    assert Front.of([lost]).with_trial(left) == Front.of([left]).with_trial(lost) == Front.of([lost, left])
    assert pareto_front([lost, left]) == [left]
    with pytest.raises(SelectionError, match="--keep-at-least"):
        chosen_automatically([lost])


@pytest.mark.parametrize("objective", [None, Objective(0.75, True, 2), Objective(0.0, True, 2)])
@given(st.data())
def test_the_front_stops_what_all_finished_trials_would(objective: Objective | None, data: st.DataObject) -> None:
    """Fed one trial at a time, as a search does."""
    finished = data.draw(st.lists(SEVERAL, max_size=9))
    records = [several(number, *own) for number, own in enumerate(finished)]
    front = Front()
    for own in records:
        front = front.with_trial(own)
    gate = Gate.behind(front, objective)
    sums = [objective.values(own.scores)[0] for own in records] if objective else []
    bound = replace(gate.bound, best=min(sums)) if gate.bound else None
    every = Gate(tuple(own.values for own in records), bound)
    for values in [*finished, *data.draw(st.lists(SEVERAL, min_size=1, max_size=9))]:
        assert gate.closes(values) is every.closes(values)
        assert gate.prunes(values) is every.prunes(values)
        assert [gate.limit(values, place) for place in (0, 1)] == [every.limit(values, place) for place in (0, 1)]


def test_equal_values_do_not_close_it() -> None:
    """The equal trial may be on the front as well as the other."""
    gate = Gate(((3.0, 0.5),))
    assert not gate.closes((3.0, 0.5))
    assert gate.closes((3.0, 0.5000001))
    assert gate.closes((4.0, 0.5))
    assert not gate.closes((2.0, 9.0))
    assert not gate.closes((9.0, 0.4))


def test_what_is_no_number_does_not_close_it() -> None:
    assert not Gate(((0.0, 0.0),)).closes((0.0, float("nan")))


@given(FINISHED, VALUES, st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_what_it_stops_can_never_stand_on_the_front(
    finished: tuple[tuple[float, float], ...], seen: tuple[float, float], rest: tuple[int, int]
) -> None:
    """Bounds only grow: where they close the gate, the values that a whole measurement gives are dominated, too."""
    whole = (seen[0] + rest[0], seen[1] + rest[1] / 4)
    if not Gate(finished).closes(seen):
        return
    assert any(dominates(values, whole) for values in finished)
    records: list[TrialRecord] = [record(number, *values) for number, values in enumerate(finished)]
    front = pareto_front([*records, record(len(records), *whole)])
    assert len(records) not in [entry.number for entry in front]


@given(FINISHED, VALUES)
def test_the_limit_is_the_fewest_refusals_that_close_it(
    finished: tuple[tuple[float, float], ...], values: tuple[float, float]
) -> None:
    gate = Gate(finished)
    closing = [refusals for refusals in range(9) if gate.closes((refusals, values[1]))]
    assert gate.limit(values) == min(closing, default=float("inf"))


@given(FINISHED, VALUES)
def test_what_belongs_on_the_front_passes(
    finished: tuple[tuple[float, float], ...], values: tuple[float, float]
) -> None:
    records = [record(number, *own) for number, own in enumerate(finished)]
    on_front = values in [entry.values for entry in pareto_front([*records, record(len(records), *values)])]
    assert Gate(finished).closes(values) is not on_front


@given(st.lists(VALUES, min_size=1, max_size=8))
def test_dominated_records_are_never_on_the_front(values: list[tuple[float, float]]) -> None:
    records = [dominated(number, *own) if number % 2 else record(number, *own) for number, own in enumerate(values)]
    assert all(entry.state is TrialState.COMPLETE for entry in pareto_front(records))
    assert pareto_front(records) == pareto_front(records[::2])


# Several behaviours ---------------------------------------------------------------------------------------------------

BOUNDS = st.tuples(st.floats(0, 1), st.floats(0, 1), st.just(1.0) | st.floats(0, 1))
"""Which share of each value has been seen when the gate is asked; KL is whole unless it is measured first."""


@given(st.lists(SEVERAL, max_size=7), SEVERAL, BOUNDS)
def test_of_several_behaviours_nothing_is_stopped_that_could_still_stand_on_the_front(
    finished: list[tuple[float, ...]], whole: tuple[float, ...], seen: tuple[float, ...]
) -> None:
    records = [several(number, *own) for number, own in enumerate(finished)]
    gate = Gate.behind(Front.of(records))
    bounds = tuple(value * share for value, share in zip(whole, seen, strict=True))
    on_front = whole in [entry.values for entry in pareto_front([*records, several(len(records), *whole)])]
    # Whatever is still unseen can only add.
    if gate.closes(bounds):
        assert not on_front
    # And with everything seen it is exactly the front that passes.
    assert gate.closes(whole) is not on_front


@given(st.lists(SEVERAL, max_size=7), SEVERAL, st.integers(0, 1))
def test_the_limit_of_one_of_several_behaviours_closes_and_of_counts_nothing_less_does(
    finished: list[tuple[float, ...]], values: tuple[float, ...], place: int
) -> None:
    gate = Gate(tuple(finished))
    limit = gate.limit(values, place)

    def closes(amount: float) -> bool:
        return gate.closes((*values[:place], amount, *values[place + 1 :]))

    own = (*values[:place], 99.0, *values[place + 1 :])
    assert gate.limit(own, place) == limit, "its own bound plays no part"
    assert (limit == float("inf")) is not closes(1e9)
    if limit < float("inf"):
        assert closes(limit)
        if place == 0:
            assert not any(closes(float(count)) for count in range(int(limit)))


@given(st.lists(SEVERAL, min_size=1, max_size=6), SEVERAL, BOUNDS)
def test_of_several_behaviours_nothing_is_pruned_that_could_become_the_best(
    finished: list[tuple[float, ...]], whole: tuple[float, ...], seen: tuple[float, ...]
) -> None:
    objective = Objective(0.75, True, 2)
    records = [several(number, *own) for number, own in enumerate(finished)]
    gate = Gate.behind(Front.of(records), objective)
    (best,), *_ = sorted(objective.values(own.scores) for own in records)
    (value,) = objective.values(several(99, *whole).scores)
    if gate.prunes(tuple(bound * share for bound, share in zip(whole, seen, strict=True))):
        assert value > best
    assert gate.prunes(whole) is (value > best)


def test_a_trial_better_in_one_behaviour_passes_however_bad_the_others() -> None:
    gate = Gate(((3.0, 20.0, 0.5),))
    assert gate.closes((3.0, 20.1, 0.5))
    assert not gate.closes((3.0, 20.0, 0.5))
    assert not gate.closes((2.0, 99.0, 9.0))
    assert not gate.closes((99.0, 19.9, 9.0))
    assert not gate.closes((99.0, 99.0, 0.4))
