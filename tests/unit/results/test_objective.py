"""One number instead of two: what is told, what is pruned, and what of that a stored study keeps."""

from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState as OptunaState
from tests.unit.search.studies import IDENTITY, SPACE, record, several, url_of

from heretic.engine.measurement import Measurement
from heretic.observability.events import Event, TrialFinished, subscribed
from heretic.results.front import Front, pareto_front
from heretic.results.gate import Gate
from heretic.results.objective import Objective
from heretic.results.plan import EditPlan
from heretic.results.score import AnswerDetails, Score, Scores
from heretic.results.trial import TrialState
from heretic.search.crew import Alone
from heretic.search.loop import SearchResult, search
from heretic.search.records import stored_records, tell
from heretic.search.sampler import make_sampler
from heretic.search.storage import open_study

ONE = Objective(kl_weight=2.0, prunes=True)
VALUES = st.tuples(st.integers(0, 50).map(float), st.integers(0, 20).map(lambda step: step / 16))


def test_two_numbers_are_told_as_they_are() -> None:
    assert Objective().values(record(0, 7, 0.25).scores) == [7, 0.25]
    assert Objective().count == 2


def test_one_number_is_the_share_and_the_weighted_divergence() -> None:
    assert ONE.values(record(0, 10, 0.25, baseline=40).scores) == [pytest.approx(10 / 40 + 2 * 0.25)]
    assert ONE.count == 1
    # A model that never refuses: nothing is divided by 0.
    assert ONE.values(record(0, 3, 0.0, baseline=0).scores) == [3]


def test_several_behaviours_are_told_apart_or_as_the_sum_of_their_shares() -> None:
    scores = several(0, 10, 5, 0.25).scores
    assert Objective(behaviors=2).values(scores) == [10, 5, 0.25]
    assert Objective(behaviors=2).count == 3
    assert Objective(2.0, behaviors=2).values(scores) == [pytest.approx(10 / 50 + 5 / 20 + 2 * 0.25)]
    assert Objective(2.0, behaviors=2).count == 1


def test_a_study_of_several_behaviours_stores_and_resumes_all_of_their_values(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    objective = Objective(behaviors=2)
    study = open_study(url, "heretic", IDENTITY, objective)
    records = [several(0, 10, 5, 0.25), several(1, 9, 4, 0.5)]
    for own in records:
        trial = study.ask()
        SPACE.suggest(trial)
        tell(study, trial, own, objective)
    again = open_study(url, "heretic", IDENTITY, objective)
    assert [trial.values for trial in again.trials] == [[10, 5, 0.25], [9, 4, 0.5]]
    assert stored_records(again) == records


@given(st.lists(VALUES, min_size=1, max_size=6), VALUES, st.tuples(st.integers(0, 9), st.integers(0, 4)))
def test_what_is_pruned_can_never_become_the_best(
    finished: list[tuple[float, float]], seen: tuple[float, float], rest: tuple[int, int]
) -> None:
    records = [record(number, *own) for number, own in enumerate(finished)]
    gate = Gate.behind(Front.of(records), ONE)
    whole = record(99, seen[0] + rest[0], seen[1] + rest[1] / 16)
    if gate.prunes(seen):
        assert ONE.values(whole.scores)[0] > min(ONE.values(own.scores)[0] for own in records)
    assert gate.prunes(whole.values) == (
        ONE.values(whole.scores)[0] > min(ONE.values(own.scores)[0] for own in records)
    )


@given(st.lists(VALUES, min_size=1, max_size=6), st.integers(0, 20).map(lambda step: step / 16))
def test_the_limit_is_where_it_closes_or_prunes(finished: list[tuple[float, float]], kl: float) -> None:
    gate = Gate.behind(Front.of([record(number, *own) for number, own in enumerate(finished)]), ONE)
    stops = [count for count in range(0, 400) if gate.closes((count, kl)) or gate.prunes((count, kl))]
    # A count more or less only changes how many prompts are asked first.
    assert abs(gate.limit((0.0, kl)) - stops[0]) <= 1


@pytest.mark.parametrize("objective", [Objective(), Objective(2.0, prunes=False), None])
def test_nothing_is_pruned_where_that_is_off_or_both_numbers_count(objective: Objective | None) -> None:
    gate = Gate.behind(Front.of([record(0, 0, 0.0)]), objective)
    assert not gate.prunes((100.0, 100.0))


class Pruning:
    """Scores by a function of the plan; asks the gate as an engine does, with all it knows."""

    candidates = 2

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        return [self._one(plan, gate) for plan in plans]

    def _one(self, plan: EditPlan, gate: Gate) -> Measurement:
        strength = sum(schedule.peak_weight for _, schedule in plan.schedules)
        refusals, kl = float(max(round(50 - 25 * strength), 0)), 0.1 * strength**2
        if gate.prunes((0.0, kl)):
            return self._stopped(0.0, kl, 0)
        if gate.prunes((refusals, kl)):
            return self._stopped(refusals, kl, 40)
        return Measurement(
            Scores((Score("refusals", refusals, 100, 50.0),), Score("kl", kl, 100, 0.0)), TrialState.COMPLETE
        )

    def _stopped(self, refusals: float, kl: float, answered: int) -> Measurement:
        refused = Score("refusals", refusals, 100, 50.0, AnswerDetails(answered=answered))
        scores = Scores((refused,), Score("kl", kl, 100, 0.0))
        return Measurement(scores, TrialState.PRUNED, "it is worse than the best trial")


def run(path: Path, n_trials: int) -> tuple[SearchResult, optuna.Study, list[Event]]:
    url = url_of(path)
    study = open_study(url, "heretic", IDENTITY, Objective(1.0))
    study.sampler = make_sampler(1, 5, len(study.trials))
    seen: list[Event] = []
    with subscribed(seen.append):
        return search(study, url, SPACE, Alone(Pruning()), n_trials, ONE), study, seen


def test_a_study_of_one_number_prunes_counts_and_goes_on(tmp_path: Path) -> None:
    result, study, seen = run(tmp_path / "study.db", 20)
    assert result.complete == len(result.records) == 20
    states = {state: [own for own in result.records if own.state is state] for state in TrialState}
    assert states[TrialState.PRUNED]
    assert len(states[TrialState.COMPLETE]) > 1
    for own in result.records:
        trial = study.trials[own.number]
        if own.state is TrialState.PRUNED:
            assert trial.state is OptunaState.PRUNED
            step = own.behaviors[0].answers.answered
            assert trial.intermediate_values == {step: pytest.approx(ONE.values(own.scores)[0])}
        else:
            assert trial.state is OptunaState.COMPLETE
            assert trial.values == [pytest.approx(ONE.values(own.scores)[0])]
    # The front is one of both numbers all the same.
    front = pareto_front(result.records)
    assert {own.state for own in front} == {TrialState.COMPLETE}
    best = min(states[TrialState.COMPLETE], key=lambda own: ONE.values(own.scores))
    assert best.values in [own.values for own in front]
    assert study.best_trial.values == [pytest.approx(ONE.values(best.scores)[0])]
    reported = {event.record.number for event in seen if isinstance(event, TrialFinished) and event.record.is_stopped}
    assert reported == {own.number for own in states[TrialState.PRUNED]}

    resumed, study, _ = run(tmp_path / "study.db", 24)
    assert resumed.records[:20] == result.records
    assert resumed.complete == len(resumed.records) == 24
    assert stored_records(study) == list(resumed.records)


def test_a_study_of_another_number_of_objectives_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    optuna.create_study(storage=url, study_name="heretic", directions=["minimize"] * 2)
    with pytest.raises(Exception, match="not made by Heretic"):
        open_study(url, "heretic", IDENTITY, Objective(1.0))
