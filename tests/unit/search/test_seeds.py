"""The space around seeds: its enqueued points are the seeds, and a resumed study repeats none that was measured."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from tests.unit.search.studies import IDENTITY, SPACE, record, url_of

from heretic.edits.writer import ATTENTION, MLP
from heretic.results.plan import EditPlan, Normalization, Scope
from heretic.search.seeds import SeededSpace, enqueue_seeds, seeded, store_seeds, stored_seeds
from heretic.search.storage import open_study, tell


def seed(*attention: float) -> EditPlan:
    strengths = ((ATTENTION, attention), (MLP, tuple(value / 2 for value in attention)))
    return EditPlan(Scope.LAYER, None, (), Normalization.ROW, strengths)


SEEDS = (seed(0.1, 0.2, -0.3), seed(0.5, 0.4, 0.7), seed(1.1, 1.0, 2.3))


def space_of(*seeds: EditPlan) -> SeededSpace:
    space = seeded(SPACE, seeds)
    assert isinstance(space, SeededSpace)
    return space


def suggested(space: SeededSpace, **changes: float) -> EditPlan:
    parameters = {**space.point(0), **changes}
    return space.suggest(optuna.trial.FixedTrial(parameters))  # type: ignore[arg-type]  # a Trial in all but its type


def assert_same(plan: EditPlan, expected: EditPlan) -> None:
    assert replace(plan, strengths=()) == replace(expected, strengths=())
    for (name, found), (other, wanted) in zip(plan.strengths, expected.strengths, strict=True):
        assert name == other
        assert found == pytest.approx(wanted)


@pytest.mark.parametrize("seeds", [SEEDS, SEEDS[:1], SEEDS[:2]])
def test_enqueued_points_are_the_seeds(tmp_path: Path, seeds: tuple[EditPlan, ...]) -> None:
    space = space_of(*seeds)
    study = open_study(url_of(tmp_path / "s.db"), "s", IDENTITY)
    assert enqueue_seeds(study, space) == len(seeds)
    for number, expected in enumerate(seeds):
        trial = study.ask()
        assert trial.number == number
        assert_same(space.suggest(trial), expected)


def test_between_seeds_strengths_are_interpolated_scaled_and_tilted() -> None:
    space = space_of(*SEEDS)
    assert_same(suggested(space, **{"seed.position": 0.5}), seed(0.3, 0.3, 0.2))
    scaled = suggested(space, **{"seed.mlp.scale": 1.4})
    assert dict(scaled.strengths)[ATTENTION] == pytest.approx((0.1, 0.2, -0.3))
    assert dict(scaled.strengths)[MLP] == pytest.approx((0.07, 0.14, -0.21))
    assert_same(suggested(space, **{"seed.tilt": 0.5}), seed(0.05, 0.2, -0.45))


def test_the_path_begins_at_no_edit() -> None:
    space = space_of(*SEEDS)
    assert_same(suggested(space, **{"seed.position": 0.0}), seed(0.0, 0.0, 0.0))
    assert_same(suggested(space, **{"seed.position": 1 / 6}), seed(0.05, 0.1, -0.15))


def test_no_seeds_leave_the_space_as_it_is() -> None:
    assert seeded(SPACE, ()) is SPACE


def test_a_resumed_study_repeats_no_seed_that_was_measured(tmp_path: Path) -> None:
    url, space = url_of(tmp_path / "s.db"), space_of(*SEEDS)
    study = open_study(url, "s", IDENTITY)
    assert stored_seeds(study) is None
    store_seeds(study, SEEDS)
    enqueue_seeds(study, space)
    measured = study.ask()
    space.suggest(measured)
    tell(study, measured, record(0, 3, 0.1))
    # Interrupted while the second was being measured.
    space.suggest(study.ask())

    again = open_study(url, "s", IDENTITY)
    assert stored_seeds(again) == SEEDS
    # The one that was interrupted waits again already.
    assert enqueue_seeds(again, space) == 0
    plans = [space.suggest(again.ask()) for _ in range(3)]
    assert_same(plans[0], SEEDS[2])
    assert_same(plans[1], SEEDS[1])
    assert all(abs(plans[2].strengths[0][1][0] - own.strengths[0][1][0]) > 1e-6 for own in SEEDS)


def test_that_there_were_no_seeds_is_remembered(tmp_path: Path) -> None:
    study = open_study(url_of(tmp_path / "s.db"), "s", IDENTITY)
    store_seeds(study, ())
    assert stored_seeds(study) == ()
