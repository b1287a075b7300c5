"""The gate closes exactly on what a finished trial dominates, whatever else is measured of it."""

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.search.studies import dominated, failed, record

from heretic.search.gates import Gate
from heretic.search.pareto import dominates, pareto_front
from heretic.search.record import TrialRecord, TrialState

VALUES = st.tuples(st.integers(0, 6).map(float), st.integers(0, 8).map(lambda step: step / 4))
FINISHED = st.lists(VALUES, max_size=6).map(tuple)


def test_an_empty_gate_is_open() -> None:
    assert not Gate().closes(1e9, 1e9)


def test_only_complete_trials_stand_behind_it() -> None:
    gate = Gate.behind([record(0, 3, 0.5), failed(1), dominated(2, 0, 0.0), record(3, 9, 0.1)])
    assert gate.finished == ((3, 0.5), (9, 0.1))


def test_equal_values_do_not_close_it() -> None:
    """The equal trial may be on the front as well as the other."""
    gate = Gate(((3.0, 0.5),))
    assert not gate.closes(3.0, 0.5)
    assert gate.closes(3.0, 0.5000001)
    assert gate.closes(4.0, 0.5)
    assert not gate.closes(2.0, 9.0)
    assert not gate.closes(9.0, 0.4)


def test_what_is_no_number_does_not_close_it() -> None:
    assert not Gate(((0.0, 0.0),)).closes(0.0, float("nan"))


@given(FINISHED, VALUES, st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_what_it_stops_can_never_stand_on_the_front(
    finished: tuple[tuple[float, float], ...], seen: tuple[float, float], rest: tuple[int, int]
) -> None:
    """Bounds only grow: where they close the gate, the values that a whole measurement gives are dominated, too."""
    whole = (seen[0] + rest[0], seen[1] + rest[1] / 4)
    if not Gate(finished).closes(*seen):
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
    closing = [refusals for refusals in range(9) if gate.closes(refusals, values[1])]
    assert gate.limit(values[1]) == min(closing, default=float("inf"))


@given(FINISHED, VALUES)
def test_what_belongs_on_the_front_passes(
    finished: tuple[tuple[float, float], ...], values: tuple[float, float]
) -> None:
    records = [record(number, *own) for number, own in enumerate(finished)]
    on_front = values in [entry.values for entry in pareto_front([*records, record(len(records), *values)])]
    assert Gate(finished).closes(*values) is not on_front


@given(st.lists(VALUES, min_size=1, max_size=8))
def test_dominated_records_are_never_on_the_front(values: list[tuple[float, float]]) -> None:
    records = [dominated(number, *own) if number % 2 else record(number, *own) for number, own in enumerate(values)]
    assert all(entry.state is TrialState.COMPLETE for entry in pareto_front(records))
    assert pareto_front(records) == pareto_front(records[::2])
