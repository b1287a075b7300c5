"""The gate costs nothing but what it saves: a study replayed with and without it has the same front."""

from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from tests.unit.engine.pico_engine import BAD, PicoBench, make_bench
from tests.unit.search.studies import IDENTITY, url_of

from heretic.edits.writer import ATTENTION, MLP
from heretic.engine.engine import Engine
from heretic.engine.factory import EngineOptions
from heretic.engine.measurement import Measurement
from heretic.observability.events import Event, TrialFinished, subscribed
from heretic.passes import side_by_side
from heretic.results.front import dominates, pareto_front
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan, Normalization
from heretic.results.trial import TrialRecord, TrialState
from heretic.search.crew import Alone
from heretic.search.loop import SearchResult, search
from heretic.search.records import stored_records
from heretic.search.space import Range, SearchSpace
from heretic.search.storage import open_study

TRIALS = 20
SPACE = SearchSpace(
    (ATTENTION, MLP),
    Normalization.NONE,
    # Strong enough for answers of a random model to change.
    peak_weight={ATTENTION: Range(0.0, 6.0), MLP: Range(0.0, 6.0)},
)


class Ungated:
    """The same engine, told of no finished trial; and what gates it was handed."""

    def __init__(self, engine: Engine) -> None:
        self.candidates = engine.candidates
        self._engine = engine

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        return self._engine.measure(plans, numbers, Gate())


@pytest.fixture(scope="module")
def bench() -> PicoBench:
    return make_bench("qwen2", tokens=8)


def run(path: Path, engine: Engine, n_trials: int = TRIALS) -> tuple[SearchResult, optuna.Study]:
    """Random plans by seed, so that what was told does not change what is asked."""
    url = url_of(path)
    study = open_study(url, "heretic", IDENTITY)
    study.sampler = optuna.samplers.RandomSampler(seed=3 + len(study.trials))
    return search(study, url, SPACE, Alone(engine), n_trials), study


def assert_same_front(found: Sequence[TrialRecord], expected: Sequence[TrialRecord]) -> None:
    assert [entry.number for entry in found] == [entry.number for entry in expected]
    for own, reference in zip(found, expected, strict=True):
        assert own.plan == reference.plan
        assert own.behaviors[0] == reference.behaviors[0]
        assert own.kl.value == pytest.approx(reference.kl.value, rel=1e-3, abs=1e-6)
        assert own.kl.divergence.positions == reference.kl.divergence.positions


@pytest.fixture(scope="module")
def whole(bench: PicoBench, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """The same plans, however many at once, measured to the end."""
    return run(tmp_path_factory.mktemp("whole") / "whole.db", Ungated(bench.batched(EngineOptions(4))))[0]


@pytest.mark.parametrize("candidates", [1, 4])
def test_a_study_with_the_gate_has_the_front_of_one_without(
    bench: PicoBench, whole: SearchResult, tmp_path: Path, candidates: int
) -> None:
    seen: list[Event] = []
    with subscribed(seen.append):
        gated, study = run(tmp_path / "gated.db", bench.batched(EngineOptions(candidates)))
    assert [entry.plan for entry in gated.records] == [entry.plan for entry in whole.records]
    assert all(entry.state is TrialState.COMPLETE for entry in whole.records)
    stopped = [entry for entry in gated.records if entry.state is TrialState.DOMINATED]
    assert len(stopped) > TRIALS // 4, "hardly anything was stopped, so nothing would be tested"
    assert {"KL" in entry.reason for entry in stopped} == {False, True}, "both jobs have to stop some"
    front = pareto_front(whole.records)
    assert len({entry.behaviors[0].value for entry in front}) > 1
    assert_same_front(pareto_front(gated.records), front)

    complete = [entry for entry in gated.records if entry.state is TrialState.COMPLETE]
    for entry in stopped:
        measured = whole.records[entry.number]
        # What is told: worse than a finished trial of an earlier batch, and no worse than the truth in refusals.
        earlier = [other for other in complete if other.number // candidates < entry.number // candidates]
        assert any(dominates(other.values, entry.values) for other in earlier)
        assert entry.behaviors[0].value <= measured.behaviors[0].value
        assert any(dominates(other.values, measured.values) for other in earlier)
        assert entry.reason
        assert study.trials[entry.number].values == list(entry.values)

    # They count, are reported as what they are, and never stand on the front.
    assert gated.complete == len(gated.records) == TRIALS
    reported = {event.record.number: event for event in seen if isinstance(event, TrialFinished)}
    assert {number for number, event in reported.items() if event.record.is_stopped} == {
        entry.number for entry in stopped
    }
    assert not any(reported[entry.number].on_front for entry in stopped)
    assert all(trial.state is OptunaState.COMPLETE for trial in study.trials)


def test_a_gated_study_goes_on_where_it_stopped(bench: PicoBench, tmp_path: Path) -> None:
    first, _ = run(tmp_path / "study.db", bench.batched(EngineOptions(4)), 18)
    assert any(entry.state is TrialState.DOMINATED for entry in first.records)
    resumed, study = run(tmp_path / "study.db", bench.batched(EngineOptions(4)), 24)
    assert resumed.records[:18] == first.records
    assert resumed.complete == len(resumed.records) == 24
    assert stored_records(study) == list(resumed.records)
    # One whose values nothing finished dominates any more would be lost to the front.
    complete = [entry for entry in resumed.records if entry.state is TrialState.COMPLETE]
    for entry in resumed.records:
        if entry.state is TrialState.DOMINATED:
            assert any(dominates(other.values, entry.values) for other in complete)


def test_a_perfect_trial_stops_everything_that_follows(bench: PicoBench) -> None:
    """Refusals of none at a divergence of nothing: whatever comes next is stopped before any answer."""
    engine = bench.batched(EngineOptions(2))
    plans = [SPACE.suggest(optuna.trial.FixedTrial(_parameters(peak))) for peak in (3.0, 5.0)]
    found = engine.measure(plans, (0, 1), Gate(((0.0, 0.0),)))
    assert [own.state for own in found] == [TrialState.DOMINATED] * 2
    for own in found:
        refusals, kl = own.scores
        assert (refusals.value, refusals.n) == (0.0, len(BAD))
        assert kl.value > 0


def test_rows_that_diverge_most_come_first_and_do_not_speak_for_the_others(
    bench: PicoBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is seen bounds the mean over all positions, not over those seen."""
    monkeypatch.setattr(side_by_side, "PASS_TOKENS", 1)
    engine = bench.batched(EngineOptions(1))
    plan = SPACE.suggest(optuna.trial.FixedTrial(_parameters(3.0)))
    (whole,) = engine.measure([plan], [0], Gate())
    kl = whole.scores.kl.value
    # Now the row that diverged most is first, and its own mean is well above.
    (passed,) = engine.measure([plan], [1], Gate(((0.0, 1.01 * kl),)))
    assert passed.state is TrialState.COMPLETE
    assert passed.scores.kl.value == pytest.approx(kl, rel=1e-4)
    (stopped,) = engine.measure([plan], [2], Gate(((0.0, 0.5 * kl),)))
    assert stopped.state is TrialState.DOMINATED
    positions = whole.scores.kl.divergence.positions
    assert stopped.scores.kl.divergence.positions < positions
    # Told is the mean of the positions seen, which come from the worst rows.
    assert stopped.scores.kl.value > kl


def _parameters(peak: float) -> dict[str, object]:
    parameters: dict[str, object] = {"scope": "layer", "direction_position": 0.5}
    for component in (ATTENTION, MLP):
        parameters |= {
            f"{component}.peak_weight": peak,
            f"{component}.peak_position": 0.6,
            f"{component}.floor": 0.5,
            f"{component}.width": 0.7,
        }
    return parameters
