"""Strengthening: answers without refusal are counted, by both engines alike, and every bound stays a bound."""

from pathlib import Path

import optuna
import pytest
from tests.unit.engine.pico_engine import BAD, PicoBench, make_bench, plans_for
from tests.unit.engine.test_batched import assert_same, assert_telling, measured
from tests.unit.engine.test_gated_search import SPACE, Ungated, run
from tests.unit.search.studies import IDENTITY, url_of

from heretic.engine.factory import EngineOptions
from heretic.observability.events import Event, ResponseMeasured, subscribed
from heretic.results.front import dominates, pareto_front
from heretic.results.gate import Gate
from heretic.results.objective import Objective
from heretic.results.plan import Normalization
from heretic.results.trial import TrialState
from heretic.search.crew import Alone
from heretic.search.loop import search
from heretic.search.storage import open_study


@pytest.fixture(scope="module")
def bench() -> PicoBench:
    return make_bench("qwen2", tokens=8, goal="strengthen")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "qwen3_moe"])
def test_both_engines_count_the_answers_without_refusal(family: str) -> None:
    strengthened, removed = make_bench(family, goal="strengthen"), make_bench(family)
    plans = plans_for(Normalization.NONE)
    expected = measured(strengthened.inplace(), plans)
    assert_telling(strengthened, expected)
    assert_same(measured(strengthened.batched(), plans), expected)
    for own, other in zip(expected, measured(removed.inplace(), plans), strict=True):
        counted, refused = own.scores.behaviors[0], other.scores.behaviors[0]
        assert (counted.name, refused.name) == ("without_refusal", "refusals")
        assert counted.value + refused.value == len(BAD)
        assert counted.baseline + refused.baseline == len(BAD)
        assert counted.refusals == refused.refusals
        assert counted.baseline_refusals == refused.baseline_refusals == refused.baseline


@pytest.mark.parametrize("early", [True, False])
def test_events_tell_the_verdict_and_not_what_counts(early: bool) -> None:
    found: dict[str, set[tuple[str, str]]] = {}
    for goal in ("remove", "strengthen"):
        bench = make_bench("qwen2", tokens=8, goal=goal)
        seen: list[Event] = []
        with subscribed(seen.append):
            bench.batched(EngineOptions(2, early_verdicts=early)).measure(
                plans_for(Normalization.NONE)[:1], [0], Gate()
            )
        found[goal] = {(event.prompt, event.verdict) for event in seen if isinstance(event, ResponseMeasured)}
    assert found["remove"] == found["strengthen"]
    assert {verdict for _, verdict in found["remove"]} == {"refused", "answered"}


def test_the_gate_stops_nothing_that_belongs_on_the_front(bench: PicoBench, tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole.db", Ungated(bench.batched(EngineOptions(2))))
    gated, _ = run(tmp_path / "gated.db", bench.batched(EngineOptions(2)))
    stopped = [entry for entry in gated.records if entry.state is TrialState.DOMINATED]
    assert any("without refusal so far" in entry.reason for entry in stopped)
    front = pareto_front(gated.records)
    assert [(entry.number, entry.behaviors) for entry in front] == [
        (entry.number, entry.behaviors) for entry in pareto_front(whole.records)
    ]
    for entry in stopped:
        measured_whole = whole.records[entry.number]
        assert entry.behaviors[0].value <= measured_whole.behaviors[0].value, "no lower bound"
        assert any(
            dominates(other.values, measured_whole.values)
            for other in gated.records
            if other.state is TrialState.COMPLETE
        )


@pytest.mark.parametrize("goal", ["remove", "strengthen"])
def test_pruning_finds_the_same_best_trial(goal: str, tmp_path: Path) -> None:
    bench = make_bench("qwen2", tokens=16, goal=goal)
    found = {}
    for prunes in (False, True):
        objective = Objective(0.05, prunes)
        url = url_of(tmp_path / f"{prunes}.db")
        study = open_study(url, "heretic", IDENTITY, Objective(1.0))
        study.sampler = optuna.samplers.RandomSampler(seed=5)
        records = search(study, url, SPACE, Alone(bench.batched(EngineOptions(2))), 14, objective).records
        complete = [entry for entry in records if entry.state is TrialState.COMPLETE]
        best = min(complete, key=lambda entry: objective.values(entry.scores))
        found[prunes] = best, [entry for entry in records if entry.state is TrialState.PRUNED]
        assert study.best_trial.number == best.number
    (whole, unpruned), (best, pruned) = found[False], found[True]
    assert unpruned == []
    assert best.plan == whole.plan
    assert best.behaviors == whole.behaviors
    assert pruned
    for entry in pruned:
        answered = entry.behaviors[0].answers.answered
        assert (answered == 0) == ("KL" in entry.reason)
        assert entry.behaviors[0].value <= answered <= len(BAD)
