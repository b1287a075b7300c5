"""The sampler draws what Optuna's own would, looks at few trials of a long study, and reads them once a trial."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState
from tests.unit.search.studies import IDENTITY, SPACE, statements, url_of

from heretic.results.front import non_dominated
from heretic.search.private_api import parameters_together
from heretic.search.sampler import BoundedSampler, SeenTrials, best_places, make_sampler
from heretic.search.storage import open_study

DIRECTIONS = ["minimize"] * 2


def values_of(plan: Any) -> list[float]:
    strength = sum(schedule.peak_weight for _, schedule in plan.schedules)
    return [float(round(50 - 15 * strength)), 0.1 * strength**2]


def suggest(trial: optuna.Trial) -> Any:
    with parameters_together(trial):
        return SPACE.suggest(trial)


def search(study: optuna.Study, trials: int, batch: int = 3) -> list[Any]:
    """Plans of a search in batches, some trials of which fail or are pruned."""
    plans: list[Any] = []
    while len(plans) < trials:
        asked = [study.ask() for _ in range(batch)]
        found = [suggest(trial) for trial in asked]
        for trial, plan in zip(asked, found, strict=True):
            if trial.number % 7 == 3:
                study.tell(trial, state=OptunaState.FAIL)
            elif len(study.directions) == 1 and trial.number % 5 == 1:
                trial.report(sum(values_of(plan)), step=trial.number)
                study.tell(trial, state=OptunaState.PRUNED)
            else:
                study.tell(trial, values_of(plan) if len(study.directions) == 2 else sum(values_of(plan)))
        plans += found
    return plans


@pytest.mark.parametrize("directions", [DIRECTIONS, DIRECTIONS[:1]])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_short_studies_are_searched_as_by_optuna(directions: list[str], tmp_path: Path) -> None:
    """With `constant_liar`, which is Optuna's own choice from 5.0 on. In a file, trials are other objects each time."""
    options: dict[str, Any] = {"n_startup_trials": 6, "multivariate": False, "seed": 5}
    samplers = [make_sampler(5, 6, 0), optuna.samplers.TPESampler(constant_liar=True, **options)]
    if optuna.version.__version__ >= "5":
        samplers.append(optuna.samplers.TPESampler(**options))
    searched = [
        search(
            optuna.create_study(directions=directions, sampler=sampler, storage=url_of(tmp_path / f"{place}.db")), 30
        )
        for place, sampler in enumerate(samplers)
    ]
    assert all(plans == searched[0] for plans in searched)


class Watching(BoundedSampler):
    """Counts the measured trials that TPE is shown."""

    def __init__(self, limit: int) -> None:
        super().__init__(0, 4, limit)
        self.shown: list[int] = []

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, *arguments: Any) -> Any:
        value = super().sample_independent(study, trial, *arguments)
        assert self._view is not None
        assert self._view.study is not study
        states = (OptunaState.COMPLETE, OptunaState.PRUNED)
        self.shown.append(len(self._view.study.get_trials(deepcopy=False, states=states)))
        return value


@pytest.mark.parametrize("directions", [DIRECTIONS, DIRECTIONS[:1]])
def test_no_more_than_so_many_trials_are_looked_at(directions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Watching(20)
    split: list[int] = []
    module: Any = optuna.samplers._tpe.sampler
    original = module._split_trials

    def splitting(study: optuna.Study, trials: Sequence[FrozenTrial], *rest: Any) -> Any:
        split.append(sum(trial.state is not OptunaState.RUNNING for trial in trials))
        return original(study, trials, *rest)

    # What an upgrade of Optuna might take away: that TPE asks the study it is given for its trials.
    monkeypatch.setattr(module, "_split_trials", splitting)
    search(optuna.create_study(directions=directions, sampler=sampler), 60)
    assert max(sampler.shown) == max(split) == 20
    assert min(split[300:]) >= 15
    assert len(split) > 400


def finished(number: int, *values: float, broken: float = 0.0) -> FrozenTrial:
    trial = create_trial(values=values, system_attrs={"constraints": [broken]} if broken else {})
    trial.number = number
    return trial


def test_the_best_and_the_newest_stay() -> None:
    """Of 17 trials, one more than the limit, four are kept for what they reached and eight because they are new."""
    reached = [(9, 1), (0, 9), (9, 0), (5, 5), *[(9.0, 9 + index / 100) for index in range(13)]]
    trials = [finished(number, *own) for number, own in enumerate(reached)]
    window = SeenTrials(16)
    assert [trial.number for trial in window.of(trials[:16])] == list(range(16))
    assert [trial.number for trial in window.of(trials)] == [0, 1, 2, 3, *range(9, 17)]
    # Until there are too many again, when the best of old stay.
    more = [*trials, *(finished(number, 9, 10) for number in range(17, 40))]
    assert [trial.number for trial in window.of(more[:21])] == [0, 1, 2, 3, *range(9, 21)]
    numbers = [trial.number for trial in window.of(more)]
    assert numbers[:4] == [0, 1, 2, 3]
    assert numbers[-8:] == list(range(32, 40))
    assert len(numbers) <= 16


def test_what_breaks_a_bound_is_never_among_the_best() -> None:
    trials = [finished(number, 0, 0, broken=1.0) for number in range(4)]
    trials += [finished(number, number, 40 - number) for number in range(4, 17)]
    assert not {0, 1, 2, 3} & {trial.number for trial in SeenTrials(16).of(trials)}


def test_of_a_large_front_those_stay_that_lie_apart() -> None:
    front = [finished(number, number, 40 - number) for number in range(17)]
    seen = {trial.number for trial in SeenTrials(16).of(front)}
    assert seen == {0, 5, *range(7, 17)}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), max_size=20), st.integers(1, 3))
def test_the_best_are_the_fronts_of_what_the_fronts_above_leave(values: list[list[int]], width: int) -> None:
    points = np.array([value[:width] for value in values], dtype=float).reshape(-1, width)
    left, counts = list(range(len(values))), [0]
    while left:
        front = [left[place] for place in non_dominated([points[place].tolist() for place in left])]
        left = [place for place in left if place not in front]
        counts.append(counts[-1] + len(front))
        assert sorted(best_places(points, counts[-1])[counts[-2] :]) == sorted(front)
        assert best_places(points, counts[-1])[: counts[-2]] == best_places(points, counts[-2])
    assert sorted(best_places(points, 99)) == list(range(len(values)))


def test_a_resumed_run_sees_what_the_one_before_saw() -> None:
    trials = [finished(number, (7 * number) % 50, (11 * number) % 30) for number in range(90)]
    growing = SeenTrials(16)
    for count in range(1, len(trials) + 1, 3):
        seen = growing.of(trials[:count])
    assert SeenTrials(16).of(trials[:count]) == seen


def test_running_trials_are_seen_and_those_that_end_late_are_taken_once() -> None:
    trials = [finished(0, 1, 1), create_trial(state=OptunaState.RUNNING), finished(2, 2, 2)]
    trials[1].number = 1
    window = SeenTrials(16)
    assert [trial.number for trial in window.of(trials)] == [0, 1, 2]
    trials[1] = finished(1, 3, 3)
    assert [trial.number for trial in window.of(trials)] == [0, 1, 2]
    failed = create_trial(state=OptunaState.FAIL)
    failed.number = 3
    assert [trial.number for trial in window.of([*trials, failed])] == [0, 1, 2]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_trial_asks_the_database_as_much_as_the_first_by_tpe(tmp_path: Path) -> None:
    study = open_study(url_of(tmp_path / "study.db"), "heretic", IDENTITY)
    study.sampler = BoundedSampler(0, 2, 8)
    search(study, 4, batch=1)
    counts = []
    for _ in range(20):
        with statements(study) as seen:
            trial = study.ask()
            suggest(trial)
            counts.append(len(seen))
        study.tell(trial, [1.0, 1.0])
    assert len(set(counts)) == 1
    # Optuna's own sampler reads all trials again for each of ten parameters.
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=2, multivariate=False, constant_liar=True, seed=0)
    with statements(study) as seen:
        SPACE.suggest(study.ask())
    assert len(seen) > counts[0]
