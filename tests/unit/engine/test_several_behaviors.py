"""Several behaviours, counted and measured in amounts: both engines agree, and the gate stops nothing too early."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import optuna
import pytest
from tests.unit.engine.pico_engine import BAD, PicoBench, make_bench, plans_for, without
from tests.unit.engine.test_batched import answering, assert_same, is_ragged, measured
from tests.unit.engine.test_gated_search import SPACE, Ungated
from tests.unit.passes.pico_runner import make_runner
from tests.unit.search.studies import IDENTITY, url_of

from heretic.config import Settings
from heretic.editors.editor import applied
from heretic.engine.engine import Engine
from heretic.engine.factory import EngineOptions
from heretic.engine.measurement import Measurement
from heretic.evaluation.evaluator import EvaluatorOptions
from heretic.evaluation.evaluators.density import DensityEvaluator
from heretic.evaluation.evaluators.length import LengthEvaluator
from heretic.observability.events import Event, ResponseMeasured, subscribed
from heretic.passes.ragged import ragged_obstacle
from heretic.passes.runner import ModelRunner
from heretic.prompts.packs import PackOptions
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.front import dominates, pareto_front
from heretic.results.gate import Gate
from heretic.results.objective import Objective
from heretic.results.plan import EditPlan, Normalization
from heretic.results.trial import TrialRecord, TrialState
from heretic.search.crew import Alone
from heretic.search.loop import search
from heretic.search.storage import open_study

TOKENS = 8
WORDY = PromptSet("wordy", tuple(Prompt(text, system="B") for text in ("Tell", "me", "y?", "", "w8", "go on", "k")))
"""Not as many as the other behaviour has, and only one of them the same."""
MARKS = (r"[acegikmoqsuwy02468!#%)+=?~]", r"[^\x00-\x7f]{2}")
PLANS = plans_for(Normalization.NONE)


def with_amounts(family: str, goal: str = "remove", runner: ModelRunner | None = None) -> PicoBench:
    """Refusals, words, and marks: about every other character that a model of bytes may write."""
    bench = make_bench(family, runner, tokens=TOKENS, goal=goal)
    options = EvaluatorOptions(Settings(goal=goal), PackOptions(patterns=MARKS), "odd characters", tokens=6)
    words = LengthEvaluator(WORDY, bench.answers(WORDY, 6), options)
    density = DensityEvaluator(WORDY, bench.answers(WORDY, 5), replace(options, tokens=5))
    return replace(bench, behaviors=(*bench.behaviors, words, density))


def assert_telling(bench: PicoBench, expected: Sequence[Measurement]) -> None:
    """A comparison of nothing with nothing would agree."""
    for place in range(len(bench.behaviors)):
        values = {bench.behaviors[place].baseline.value, *(own.scores.behaviors[place].value for own in expected)}
        assert len(values) > 1, (place, values)


@pytest.mark.parametrize(
    ("family", "goal"),
    [
        # One that is read by ragged passes, and one that is not: evaluators know nothing else of a family.
        pytest.param(*own, marks=() if own in {("llama", "remove"), ("falcon_h1", "strengthen")} else pytest.mark.slow)
        for own in product(("llama", "gpt2", "qwen3_moe", "falcon_h1", "lfm2"), ("remove", "strengthen"))
    ],
)
def test_both_engines_measure_every_behaviour_the_same(family: str, goal: str) -> None:
    bench = with_amounts(family, goal)
    expected = measured(bench.inplace(), PLANS)
    assert_telling(bench, expected)
    engine = bench.batched()
    ragged = ragged_obstacle(bench.runner.loaded) is None
    assert is_ragged(engine) is ragged
    # Twice: the second time prompts are asked in another order.
    assert_same(measured(engine, PLANS), expected)
    assert_same(measured(engine, PLANS[::-1]), expected[::-1])
    units = [score.unit for score in expected[0].scores]
    assert units == ["", "words", "marks per 100 words", ""]
    assert [score.n for score in expected[0].scores.behaviors[:3]] == [len(BAD), len(WORDY), len(WORDY)]


@pytest.mark.parametrize("part", ["shared_prefix", "kept_layers", "early_verdicts"])
def test_no_saving_changes_a_score(part: str) -> None:
    bench = with_amounts("llama")
    assert_same(measured(bench.batched(without(part)), PLANS), measured(bench.inplace(), PLANS))


@pytest.mark.parametrize("rows", [1, 4])
def test_answers_do_not_depend_on_how_many_rows_are_decoded_at_once(rows: int) -> None:
    bench = with_amounts("llama")
    engine = bench.batched()
    answering(engine, rows)
    assert_same(measured(engine, PLANS), measured(bench.inplace(), PLANS))


def test_every_answer_is_reported_once_for_its_behaviour() -> None:
    bench = with_amounts("llama")
    engine = bench.batched()
    seen: list[Event] = []
    with subscribed(seen.append):
        found = engine.measure(PLANS, (7, 8, 9), Gate())
    events = [event for event in seen if isinstance(event, ResponseMeasured)]
    asked = [prompt.user for prompts in (BAD, WORDY, WORDY) for prompt in prompts.prompts]
    for number, own in zip((7, 8, 9), found, strict=True):
        mine = [event for event in events if event.trial == number]
        assert sorted(event.prompt for event in mine) == sorted(asked)
        words = [float(found[1]) for event in mine if (found := re.fullmatch(r"([0-9.]+) words", event.verdict))]
        assert sum(words) / len(WORDY) == pytest.approx(own.scores.behaviors[1].value)


def most_of(found: Sequence[Measurement], place: int) -> tuple[EditPlan, Measurement]:
    """The plan under which there is most of a behaviour, and what was measured of it."""
    best = max(range(len(PLANS)), key=lambda index: found[index].scores.behaviors[place].value)
    return PLANS[best], found[best]


@pytest.mark.parametrize("family", ["llama", "falcon_h1"])
def test_a_trial_stops_at_the_behaviour_that_decides_and_no_other_is_asked(family: str) -> None:
    bench = with_amounts(family)
    found = measured(bench.inplace(), PLANS)
    for place in range(3):
        assert_stops_at(bench, place, *most_of(found, place))


def assert_stops_at(bench: PicoBench, place: int, plan: EditPlan, whole: Measurement) -> None:
    values = [score.value for score in whole.scores]
    assert values[place] > 0, "nothing would be tested"
    # Better by far in one behaviour, and worse in none.
    earlier = (value * (1 - 1e-9) for value in values[:place])  # added up in another order they differ a little
    finished = (*earlier, values[place] / 100, *(0.0 for _ in values[place + 1 :]))
    engine = bench.batched(EngineOptions(1))
    answering(engine, 2)
    # Then it is known which prompts' answers count most, and they are asked first.
    assert_same(engine.measure([plan], [0], Gate()), [whole])
    (stopped,) = engine.measure([plan], [1], Gate((finished,)))
    assert stopped.state is TrialState.DOMINATED
    assert f"{whole.scores.behaviors[place].label} so far" in stopped.reason
    answered = [score.answers.answered for score in stopped.scores.behaviors]
    prompts = [len(own.prompts) for own in bench.behaviors]
    assert answered[:place] == prompts[:place]
    assert 0 < answered[place] <= prompts[place]
    assert answered[place + 1 :] == [0] * (2 - place)
    for score, true in zip(stopped.scores.behaviors, whole.scores.behaviors, strict=True):
        assert score.value <= true.value * (1 + 1e-12), "no lower bound"


@pytest.mark.parametrize("family", ["llama", "falcon_h1"])
@pytest.mark.parametrize("is_last", [True, False])
def test_what_the_very_last_answer_decides_saves_only_what_comes_after_it(family: str, is_last: bool) -> None:
    """Where nothing comes after it the numbers are whole, so the trial is complete."""
    bench = with_amounts(family, "strengthen")
    refusals, words, density = bench.behaviors
    bench = replace(bench, behaviors=(refusals, density, words) if is_last else (refusals, words, density))
    plan, whole = most_of(measured(bench.inplace(), PLANS), 0)
    place = 2 if is_last else 1
    # Every answer lacks some words, so that nothing but the last one makes the sum whole.
    with applied(bench.editor, bench.build(plan)):
        texts = bench.answers(WORDY, 6)
    assert all(amount > 0 for amount in words.judge_all(list(zip(WORDY.prompts, texts, strict=True))))
    finished = [score.value * (1 - 1e-9) if index <= place else 0.0 for index, score in enumerate(whole.scores)]
    (found,) = bench.batched(EngineOptions(1)).measure([plan], [1], Gate((tuple(finished),)))
    if is_last:
        assert found.state is TrialState.COMPLETE
        assert_same([found], [whole])
    else:
        assert found.state is TrialState.DOMINATED
        answered = [score.answers.answered for score in found.scores.behaviors]
        assert answered == [len(BAD), len(WORDY), 0]
        assert found.scores.behaviors[1].value == pytest.approx(whole.scores.behaviors[1].value)


BEHAVIORS = 3


def run(path: Path, engine: Engine, objective: Objective | None = None, n_trials: int = 16) -> list[TrialRecord]:
    """Random plans by seed, with a share for each behaviour."""
    url = url_of(path)
    told = objective or Objective(behaviors=BEHAVIORS)
    study = open_study(url, "heretic", IDENTITY, told)
    study.sampler = optuna.samplers.RandomSampler(seed=11)
    return list(search(study, url, replace(SPACE, behaviors=2), Alone(engine), n_trials, told).records)


@pytest.fixture(scope="module")
def bench() -> PicoBench:
    return with_amounts("qwen2", runner=make_runner("qwen2", batch_size=20))


def test_the_gate_stops_nothing_that_belongs_on_the_front(bench: PicoBench, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole.db", Ungated(bench.batched(EngineOptions(2))))
    gated = run(tmp_path / "gated.db", bench.batched(EngineOptions(2)))
    assert [own.plan for own in gated] == [own.plan for own in whole]
    assert all(len(own.plan.shares) == 2 for own in whole)
    stopped = [own for own in gated if own.state is TrialState.DOMINATED]
    assert stopped, "nothing would be tested"
    front = pareto_front(whole)
    assert len(front) > 1
    assert [own.number for own in pareto_front(gated)] == [own.number for own in front]
    complete = [own for own in gated if own.state is TrialState.COMPLETE]
    for own in stopped:
        true = whole[own.number]
        assert any(dominates(other.values, true.values) for other in complete)
        for score, expected in zip(own.behaviors, true.behaviors, strict=True):
            assert score.value <= expected.value * (1 + 1e-12), "no lower bound"


def test_pruning_finds_the_same_best_trial(bench: PicoBench, tmp_path: Path) -> None:
    found = {}
    for prunes in (False, True):
        objective = Objective(0.05, prunes, BEHAVIORS)
        records = run(tmp_path / f"{prunes}.db", bench.batched(EngineOptions(2)), objective)
        complete = [own for own in records if own.state is TrialState.COMPLETE]
        best = min(complete, key=lambda own: objective.values(own.scores))
        found[prunes] = best.number, [own for own in records if own.state is TrialState.PRUNED]
    (whole, unpruned), (best_number, pruned) = found[False], found[True]
    assert unpruned == []
    assert pruned
    assert best_number == whole
