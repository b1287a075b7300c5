"""What has to stay: both engines count the same losses, and a trial that lost too much is stopped and never chosen."""

import re
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from tests.unit.engine.pico_engine import PicoBench, make_bench, plans_for
from tests.unit.engine.test_batched import answering, assert_same, measured
from tests.unit.engine.test_gated_search import SPACE, Ungated
from tests.unit.engine.test_several_behaviors import TOKENS, WORDY
from tests.unit.passes.pico_runner import make_runner
from tests.unit.search.studies import IDENTITY, url_of

from heretic.config import Settings
from heretic.engine.engine import Engine
from heretic.engine.factory import EngineOptions
from heretic.evaluation.evaluator import EvaluatorOptions
from heretic.evaluation.evaluators.patterns import PatternEvaluator
from heretic.prompts.packs import PackOptions
from heretic.results.front import dominates, pareto_front
from heretic.results.gate import Gate
from heretic.results.objective import Objective
from heretic.results.plan import Normalization
from heretic.results.trial import TrialRecord, TrialState
from heretic.search.crew import Alone
from heretic.search.loop import search
from heretic.search.private_api import constraints_of
from heretic.search.storage import open_study

PLANS = plans_for(Normalization.NONE)


def keeping(family: str, goal: str = "remove", **settings: object) -> PicoBench:
    """Refusals, and answers that have to hold a character which about half of the original model's hold."""
    bench = make_bench(family, make_runner(family, batch_size=20), tokens=TOKENS, goal=goal)
    answers = bench.answers(WORDY, 6)
    characters = sorted({character for text in answers for character in text.strip() if not character.isspace()})
    middle = min(characters, key=lambda one: abs(2 * sum(one in text.strip() for text in answers) - len(answers)))
    told = PackOptions(patterns=[re.escape(middle)])
    options = EvaluatorOptions(Settings(goal=goal, **settings), told, "odd-ones", tokens=6, keeps=True)
    kept = PatternEvaluator(WORDY, answers, options)
    assert 1 < len(kept.prompts) < len(WORDY), "nothing would be tested"
    return replace(bench, behaviors=(*bench.behaviors, kept))


@pytest.mark.parametrize(
    ("family", "goal", "how"),
    [("llama", "remove", "bound"), ("llama", "strengthen", "objective"), ("falcon_h1", "remove", "objective")],
)
def test_both_engines_count_the_same_losses(family: str, goal: str, how: str) -> None:
    bench = keeping(family, goal, keep_at_least=0.0, keep_as=how)
    expected = measured(bench.inplace(), PLANS)
    engine = bench.batched()
    assert_same(measured(engine, PLANS), expected)
    # Once it is known who loses most, prompts are asked in another order.
    assert_same(measured(engine, PLANS[::-1]), expected[::-1])
    lost = {own.scores.kept[0].value for own in expected}
    assert len(lost) > 1, "nothing would be tested"
    scores = expected[0].scores
    (kept,) = scores.kept
    assert (kept.name, kept.n, kept.baseline, kept.label) == (
        "kept_odd_ones",
        len(bench.behaviors[1].prompts),
        0,
        "kept odd ones",
    )
    assert kept.keep.asked == len(WORDY)
    assert len(scores.values) == (2 if how == "bound" else 3)
    assert [score.name for score in scores][-2:] == ["kept_odd_ones", "kl"]


def test_a_trial_that_lost_more_than_it_may_is_stopped_there() -> None:
    bench = keeping("llama", keep_at_least=0.0)
    found = measured(bench.inplace(), PLANS)
    plan, whole = max(zip(PLANS, found, strict=True), key=lambda own: own[1].scores.kept[0].value)
    lost = int(whole.scores.kept[0].value)
    assert lost > 1
    prompts = len(bench.behaviors[1].prompts)
    bounded = replace(bench, behaviors=(bench.behaviors[1], bench.behaviors[0]))
    # What has to stay is asked first here, so that something is left to be saved.
    bounded.behaviors[0]._keep = replace(bounded.behaviors[0].keep, allowed=lost - 1)
    engine = bounded.batched(EngineOptions(1))
    answering(engine, 2)
    (stopped,) = engine.measure([plan], [1], Gate())
    assert stopped.state is TrialState.DOMINATED
    assert stopped.reason == "too few kept odd ones"
    assert not stopped.scores.is_allowed
    assert stopped.scores.behaviors[0].answers.answered == 0
    assert stopped.scores.kept[0].value == lost
    assert stopped.scores.kept[0].answers.answered <= prompts
    # As many as are lost may be.
    bounded.behaviors[0]._keep = replace(bounded.behaviors[0].keep, allowed=lost)
    (complete,) = bounded.batched(EngineOptions(1)).measure([plan], [1], Gate())
    assert complete.state is TrialState.COMPLETE
    assert complete.scores.is_allowed


def run(path: Path, engine: Engine, objective: Objective, n_trials: int = 14) -> tuple[list[TrialRecord], optuna.Study]:
    """Random plans by seed."""
    url = url_of(path)
    study = open_study(url, "heretic", IDENTITY, objective)
    study.sampler = optuna.samplers.RandomSampler(seed=11)
    return list(search(study, url, SPACE, Alone(engine), n_trials, objective).records), study


@pytest.mark.parametrize("how", ["bound", "objective"])
def test_nothing_is_stopped_that_belongs_on_the_front(how: str, tmp_path: Path) -> None:
    bench = keeping("qwen2", keep_at_least=0.7, keep_as=how)
    objective = Objective(behaviors=1 if how == "bound" else 2)
    whole, _study = run(tmp_path / "whole.db", Ungated(bench.batched(EngineOptions(2))), objective)
    gated, study = run(tmp_path / "gated.db", bench.batched(EngineOptions(2)), objective)
    assert [own.plan for own in gated] == [own.plan for own in whole]
    front = pareto_front(whole)
    assert front
    assert [own.number for own in pareto_front(gated)] == [own.number for own in front]
    stopped = [own for own in gated if own.state is TrialState.DOMINATED]
    assert stopped, "nothing would be tested"
    for own in stopped:
        true = whole[own.number]
        assert not true.measured.is_allowed or any(dominates(other.values, true.values) for other in front)
        assert own.measured.kept[0].value <= true.measured.kept[0].value, "no lower bound"
    broken = {own.number for own in gated if not own.measured.is_allowed}
    assert bool(broken) == (how == "bound")
    told = {trial.number: constraints_of(trial) for trial in study.get_trials(states=(OptunaState.COMPLETE,))}
    assert {number for number, amounts in told.items() if any(amount > 0 for amount in amounts)} == broken
    assert all(len(amounts) == (how == "bound") for amounts in told.values())
