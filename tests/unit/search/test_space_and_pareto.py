"""Plans stay inside the space, and the front is what brute force says."""

import json
import math
from dataclasses import replace

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.search.studies import SPACE, dominated, failed, record, several

from heretic.common.errors import SelectionError
from heretic.edits.writer import ATTENTION, MLP
from heretic.results.front import Front, dominates, hypervolume, knee, least, lowest_divergences, pareto_front
from heretic.results.plan import EditPlan, Normalization, Scope
from heretic.results.trial import TrialRecord
from heretic.search.space import Range, SearchSpace


def suggested(space: SearchSpace, count: int = 60) -> list[tuple[EditPlan, dict[str, object]]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    result = []
    for _ in range(count):
        trial = study.ask()
        result.append((space.suggest(trial), trial.params))
    return result


@pytest.mark.parametrize(("components", "parameters"), [((ATTENTION, MLP), 10), ((ATTENTION,), 6), ((MLP,), 6)])
def test_every_trial_has_every_parameter(components: tuple[str, ...], parameters: int) -> None:
    """Also where the scope makes one irrelevant; else the sampler would see another space in each trial."""
    plans = suggested(SearchSpace(components, Normalization.NONE))
    assert {len(given) for _, given in plans} == {parameters}
    assert {plan.scope for plan, _ in plans} == set(Scope)


@pytest.mark.parametrize("normalization", list(Normalization))
def test_plans_stay_in_range(normalization: Normalization) -> None:
    space = SearchSpace((ATTENTION, MLP), normalization, direction_position=Range(0.45, 0.55))
    for plan, _ in suggested(space):
        assert plan.normalization is normalization
        assert (plan.direction_position is None) == (plan.scope is Scope.LAYER)
        if plan.direction_position is not None:
            assert 0.45 <= plan.direction_position <= 0.55
        assert [name for name, _ in plan.schedules] == [ATTENTION, MLP]
        for name, schedule in plan.schedules:
            assert space.peak_weight[name].low <= schedule.peak_weight <= space.peak_weight[name].high
            assert space.peak_position.low <= schedule.peak_position <= space.peak_position.high
            assert space.floor.low <= schedule.floor <= space.floor.high
            assert space.width.low <= schedule.width <= space.width.high


@pytest.mark.parametrize("fixed_position", [None, 0.5])
def test_each_of_several_behaviours_gets_a_share(fixed_position: float | None) -> None:
    space = replace(SPACE, behaviors=3, fixed_position=fixed_position)
    plans = suggested(space)
    one = suggested(replace(SPACE, fixed_position=fixed_position))
    for (plan, parameters), (_, before) in zip(plans, one, strict=True):
        assert plan.shares == tuple(parameters[f"behavior.{index}.share"] for index in range(3))
        assert all(0 <= share <= 1 for share in plan.shares)
        assert len(parameters) == len(before) + 3
        assert EditPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
        fixed = {name: value for name, value in space.parameters(plan).items() if name in parameters}
        assert fixed == {name: parameters[name] for name in fixed}
        assert {f"behavior.{index}.share" for index in range(3)} <= set(fixed)
    assert len({plan.shares for plan, _ in plans}) == len(plans)
    assert {plan.shares for plan, _ in one} == {()}


def test_what_is_suggested_is_what_the_study_stores() -> None:
    for plan, given_parameters in suggested(SPACE, 5):
        for name, schedule in plan.schedules:
            for field in ("peak_weight", "peak_position", "floor", "width"):
                assert given_parameters[f"{name}.{field}"] == getattr(schedule, field)


def test_identity_differs_whenever_the_space_does() -> None:
    spaces = [
        SPACE,
        SearchSpace((ATTENTION,), Normalization.ROW),
        SearchSpace((MLP, ATTENTION), Normalization.ROW),
        replace(SPACE, normalization=Normalization.NONE),
        replace(SPACE, direction_position=Range(0.3, 0.8)),
        replace(SPACE, peak_weight={**SPACE.peak_weight, MLP: Range(0.0, 1.5)}),
        replace(SPACE, peak_position=Range(0.2, 1.0)),
        replace(SPACE, floor=Range(0.0, 0.9)),
        replace(SPACE, width=Range(0.05, 0.8)),
        replace(SPACE, behaviors=2),
        replace(SPACE, behaviors=3),
    ]
    assert len({space.identity() for space in spaces}) == len(spaces)
    assert SPACE.identity() == SearchSpace((ATTENTION, MLP), Normalization.ROW).identity()


def test_records_survive_json() -> None:
    for original in (record(3, 12.0, 0.03125), failed(4, "the edited model's logits are not finite")):
        assert TrialRecord.from_json(json.loads(json.dumps(original.to_json()))) == original


def test_a_failed_trial_has_no_scores() -> None:
    assert record(0, 5, 0.1).kl.value == 0.1
    assert (failed(0).behaviors, failed(0).values) == ((), ())
    with pytest.raises(ValueError, match="trial 1 failed"):
        assert failed(0).kl
    assert failed(0).behaviors == ()


points = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(points, st.randoms(use_true_random=False))
def test_front_is_what_brute_force_finds(values: list[tuple[int, float]], random: object) -> None:
    records = [record(number, *value) for number, value in enumerate(values)]
    random.shuffle(records)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    front = pareto_front([failed(99), *records])
    best = {
        value
        for value in values
        if not any(other[0] <= value[0] and other[1] <= value[1] and other != value for other in values)
    }
    assert [entry.values for entry in front] == sorted((float(a), b) for a, b in best)
    # Of equal ones the earliest.
    assert [entry.number for entry in front] == [values.index((int(a), b)) for a, b in (e.values for e in front)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 3), max_size=20))
def test_a_front_that_is_fed_one_trial_at_a_time_is_the_whole_studys(values: list[tuple[float, ...]]) -> None:
    front = Front()
    for number in range(len(values)):
        records = [failed(99), *(several(index, *own) for index, own in enumerate(values[: number + 1]))]
        before, front = front, front.with_trial(records[-1])
        assert list(front.records) == pareto_front(records)
        assert front == Front.of(records)
        assert (front is before) is (number not in [own.number for own in front.records])
    assert front.with_trial(failed(98)) is front
    assert front.with_trial(dominated(98, 0, 0)) is front


@settings(max_examples=100, deadline=None)
@given(points)
def test_the_choice_is_on_the_front_and_nearest_to_nothing(values: list[tuple[int, float]]) -> None:
    records = [record(number, *value, baseline=4.0) for number, value in enumerate(values)]
    chosen = knee(records)
    assert chosen in pareto_front(records)
    assert math.hypot(chosen.values[0] / 4, chosen.values[1]) == min(math.hypot(a / 4, b) for a, b in values)


def test_dominance_is_strict_and_partial() -> None:
    assert dominates((1, 1), (1, 2))
    assert dominates((0, 0), (1, 2))
    assert not dominates((1, 1), (1, 1))
    assert not dominates((0, 3), (1, 2))
    with pytest.raises(ValueError, match="zip"):
        dominates((1,), (1, 2))


def test_the_documented_choice() -> None:
    """Refusals count as a share of the original model's, KL in nats: 25 of 50 refusals weigh as much as half a nat."""
    no_change, balanced, broken = record(0, 50, 0.0), record(1, 5, 0.05), record(2, 0, 3.0)
    assert knee([no_change, balanced, broken]) is balanced
    assert knee([record(0, 25, 0.0), record(1, 0, 0.4)]).number == 1
    assert knee([record(0, 25, 0.0), record(1, 0, 0.6)]).number == 0


def test_of_several_behaviours_the_choice_weighs_every_share() -> None:
    """As far from nothing as (share of refusals, share of words, KL) is."""
    both, only_refusals, only_words = several(0, 10, 4, 0.1), several(1, 0, 20, 0.1), several(2, 50, 0, 0.1)
    assert knee([only_refusals, both, only_words]) is both
    # Shares of 0.2, 0.2 against 0 and 0.27.
    assert knee([both, several(3, 0, 5.4, 0.1)]).number == 3
    assert knee([both, several(3, 0, 6, 0.1)]).number == 0
    # A nat weighs as much as all of a behaviour.
    assert knee([several(0, 0, 10, 0), several(1, 0, 0, 0.49)]).number == 1
    assert knee([several(0, 0, 10, 0), several(1, 0, 0, 0.51)]).number == 0


def test_the_front_of_several_behaviours_keeps_what_is_best_in_any() -> None:
    records = [several(0, 10, 4, 0.1), several(1, 9, 5, 0.1), several(2, 10, 5, 0.1), several(3, 10, 4, 0.1)]
    assert [own.number for own in pareto_front(records)] == [1, 0]


def test_the_least_is_that_of_all_behaviours_together() -> None:
    records = [several(0, 0, 20, 0.5), several(1, 10, 4, 0.5), several(2, 10, 4, 0.4), several(3, 50, 0, 0.1)]
    assert least(records).number == 2
    assert least([record(0, 3, 0.5), record(1, 3, 0.4), record(2, 4, 0.0)]).number == 1


def test_a_far_off_trial_does_not_move_the_choice() -> None:
    near = [record(0, 10, 0.1), record(1, 4, 0.3)]
    chosen = knee(near).number
    assert knee([*near, record(2, 0, 500.0)]).number == chosen


def test_a_model_that_refuses_nothing_can_still_be_chosen_from() -> None:
    assert knee([record(0, 0, 0.2, baseline=0.0), record(1, 0, 0.1, baseline=0.0)]).number == 1


@pytest.mark.parametrize("records", [[], [failed(0), failed(1)]])
def test_nothing_to_choose_from(records: list[TrialRecord]) -> None:
    assert pareto_front(records) == []
    with pytest.raises(SelectionError, match="No trial was finished"):
        knee(records)


def test_hypervolume_by_hand() -> None:
    # Of a box of 10 refusals by three powers of ten: (0, 0.1) takes a third of it, (5, 0.01) half of another third.
    limits = 0.001, 1.0
    points = [(0, 0.1), (5, 0.01), (6, 0.01), (10, 0.0), (0, 0.9)]
    assert hypervolume(points, 10, limits) == pytest.approx(1 / 3 + 1 / 6)
    assert hypervolume([], 10) == 0
    assert hypervolume([(0, 0.0)], 10) == hypervolume([(0, 0.001)], 10) == pytest.approx(1)
    assert hypervolume([(0, 0.5), (0, 3.0)], 10) == 0


def test_the_lowest_divergence_at_a_share_of_the_behavior() -> None:
    points = [(0, 0.3), (1, 0.2), (5, 0.05), (6, 0.01)]
    assert lowest_divergences(points, 10) == {0.5: 0.05, 0.1: 0.2, 0.0: 0.3}
    assert lowest_divergences(points[2:], 10) == {0.5: 0.05, 0.1: None, 0.0: None}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_hypervolume_counts_the_cells_that_some_point_dominates(points: list[tuple[int, int]]) -> None:
    cells = sum(any(p[0] <= row and p[1] <= column for p in points) for row in range(8) for column in range(8))
    # Columns are powers of two.
    powers = [(float(a), 2.0**b) for a, b in points]
    assert hypervolume(powers, 8, (1.0, 2.0**8)) == pytest.approx(cells / 64)
