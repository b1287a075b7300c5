"""Plans that are tried first: exactly these, within the space, once."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from tests.unit.search.studies import IDENTITY, PLAN, SPACE, url_of
from tests.unit.search.test_loop import Fake, FakeEngine

from heretic.edits.writer import ATTENTION, MLP
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.search.crew import Alone
from heretic.search.loop import search
from heretic.search.sampler import make_sampler
from heretic.search.seeding import enqueue_once, enqueue_plan
from heretic.search.space import PEAK_WEIGHTS, SearchSpace
from heretic.search.storage import open_study

OTHER = replace(PLAN, direction_position=0.4)


def study_in(path: Path) -> tuple[optuna.Study, str]:
    url = url_of(path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    study.sampler = make_sampler(1, 3, len(study.trials))
    return study, url


def test_a_plan_comes_back_from_the_space_as_it_was() -> None:
    study = optuna.create_study()
    enqueue_plan(study, SPACE, PLAN, "test")
    assert SPACE.suggest(study.ask()) == PLAN


def test_numbers_outside_are_moved_to_the_edge_and_the_space_decides_the_norms() -> None:
    study = optuna.create_study()
    wild = EditPlan(
        Scope.GLOBAL,
        0.99,
        ((ATTENTION, Schedule(9.0, 0.0, 1.0, 3.0)), (MLP, Schedule(-1.0, 0.5, 0.5, 0.0))),
        Normalization.COLUMN,
    )
    enqueue_plan(study, SPACE, wild, "test")
    plan = SPACE.suggest(study.ask())
    schedules = dict(plan.schedules)
    assert plan.normalization is Normalization.ROW
    assert plan.direction_position == SPACE.direction_position.high
    assert schedules[ATTENTION] == Schedule(1.6, 0.3, 1.0, 0.7)
    assert schedules[MLP] == Schedule(0.0, 0.5, 0.5, 0.05)


def test_a_negative_plan_stays_negative_where_the_goal_is_to_strengthen() -> None:
    space = SearchSpace((ATTENTION, MLP), Normalization.ROW, peak_weight=PEAK_WEIGHTS["strengthen"])
    study = optuna.create_study()
    negative = replace(PLAN, schedules=((ATTENTION, Schedule(-1.0, 0.6, 0.2, 0.3)), (MLP, Schedule(-0.4, 0.6, 0, 0.3))))
    enqueue_plan(study, space, negative, "test")
    assert space.suggest(study.ask()) == negative


def test_what_a_plan_leaves_open_is_the_samplers() -> None:
    """Of a plan in which each layer has its own direction, and of a component that the plan does not know."""
    study = optuna.create_study()
    enqueue_plan(study, SPACE, EditPlan(Scope.LAYER, None, ((ATTENTION, PLAN.schedules[0][1]),)), "test")
    plan = SPACE.suggest(study.ask())
    assert plan.scope is Scope.LAYER
    assert plan.schedules[0] == PLAN.schedules[0]
    assert SPACE.peak_weight[MLP].low <= plan.schedules[1][1].peak_weight <= SPACE.peak_weight[MLP].high


def test_components_of_other_models_are_left_out() -> None:
    space = SearchSpace((MLP,), Normalization.ROW)
    study = optuna.create_study()
    enqueue_plan(study, space, PLAN, "test")
    assert space.suggest(study.ask()).schedules == PLAN.schedules[1:]


def test_enqueued_plans_are_the_first_trials_and_count(tmp_path: Path) -> None:
    study, url = study_in(tmp_path)
    assert enqueue_once(study, url, SPACE, [PLAN, OTHER], "test")
    fake = Fake()
    result = search(study, url, SPACE, Alone(FakeEngine(fake, candidates=4)), 5)
    assert fake.plans[:2] == [PLAN, OTHER]
    assert result.complete == 5
    assert len(study.trials) == 5


@pytest.mark.parametrize("n_trials", [0, 1, 3])
def test_a_resumed_study_is_given_nothing_twice(tmp_path: Path, n_trials: int) -> None:
    """Stopped before the first trial, between the enqueued ones, and behind them."""
    study, url = study_in(tmp_path)
    enqueue_once(study, url, SPACE, [PLAN, OTHER], "test")
    first = Fake()
    search(study, url, SPACE, Alone(FakeEngine(first)), n_trials)
    study, url = study_in(tmp_path)
    assert not enqueue_once(study, url, SPACE, [PLAN, OTHER], "test")
    second = Fake()
    search(study, url, SPACE, Alone(FakeEngine(second)), 6)
    plans = [*first.plans, *second.plans]
    assert plans[:2] == [PLAN, OTHER]
    assert plans.count(PLAN) == plans.count(OTHER) == 1
    assert len(plans) == 6


def test_a_study_that_began_without_is_left_alone(tmp_path: Path) -> None:
    study, url = study_in(tmp_path)
    search(study, url, SPACE, Alone(FakeEngine(Fake())), 2)
    assert not enqueue_once(study, url, SPACE, [PLAN], "test")
    assert len(study.trials) == 2


def test_two_sources_do_not_hinder_each_other(tmp_path: Path) -> None:
    study, url = study_in(tmp_path)
    assert enqueue_once(study, url, SPACE, [PLAN], "one")
    assert enqueue_once(study, url, SPACE, [OTHER], "two")
    assert len(study.trials) == 2
