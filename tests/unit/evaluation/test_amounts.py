"""Length and density: mean amounts of answers, or, to strengthen, what answers lack."""

from typing import Any

import pytest
from tests.unit.passes.pico_runner import PROMPT_SET, PROMPTS, make_runner

from heretic.common.errors import ConfigurationError
from heretic.config import Settings
from heretic.evaluation.answers import Amounts
from heretic.evaluation.evaluator import EVALUATORS, AnswerEvaluator, EvaluatorOptions
from heretic.evaluation.evaluators.density import LEAST_WORDS, MOST, DensityEvaluator
from heretic.evaluation.evaluators.length import LengthEvaluator
from heretic.observability.events import Event, ResponseMeasured, subscribed
from heretic.passes.runner import ModelRunner, Response
from heretic.prompts.packs import PackOptions
from heretic.prompts.types import Prompt
from heretic.results.score import AnswerDetails

LONG = "Maybe it is so, maybe not: " + "word " * 54
ANSWERS = dict(zip([prompt.user for prompt in PROMPTS], (LONG, "Maybe.", "", "It is 4.", "one two"), strict=True))
"""60 words with two marks, one word with one mark, nothing, three words, two words."""
MARKS = ("maybe",)
TOKENS = 40


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> ModelRunner:
    """Whose answers are scripted."""
    runner = make_runner("llama")

    def generate(prompts: tuple[Prompt, ...], max_new_tokens: int) -> list[Response]:
        assert max_new_tokens == TOKENS
        return [Response(ANSWERS[prompt.user], (1,)) for prompt in prompts]

    monkeypatch.setattr(runner, "generate", generate)
    return runner


def made(runner: ModelRunner, name: str, patterns: tuple[str, ...] = MARKS, **changes: Any) -> Amounts:
    settings = Settings(refusal_check_tokens=TOKENS, **changes)
    options = EvaluatorOptions(settings, PackOptions(patterns=patterns), "hedging-a-lot")
    evaluator = EVALUATORS.get(name)(runner, PROMPT_SET, options)
    assert isinstance(evaluator, Amounts)
    return evaluator


def test_words_are_what_spaces_separate(runner: ModelRunner) -> None:
    evaluator = made(runner, "length")
    baseline = evaluator.baseline
    assert baseline.value == pytest.approx((60 + 1 + 0 + 3 + 2) / 5)
    assert (baseline.name, baseline.unit, baseline.n, baseline.baseline) == ("words", "words", 5, baseline.value)
    assert baseline.details == AnswerDetails(TOKENS)
    assert evaluator.measure("a  b\n\nc\td") == 4


def test_marks_are_counted_by_100_words(runner: ModelRunner) -> None:
    evaluator = made(runner, "density")
    # One mark in a short answer is one in so many words.
    amounts = (100 * 2 / 60, 100 / LEAST_WORDS, 0, 0, 0)
    assert evaluator.baseline.value == pytest.approx(sum(amounts) / 5)
    assert (evaluator.baseline.name, evaluator.baseline.unit) == ("hedging_a_lot", "marks per 100 words")
    assert evaluator.baseline.label == "hedging a lot"
    at_the_limit = "maybe " + "word " * (LEAST_WORDS - 1)
    assert evaluator.measure(at_the_limit) == pytest.approx(100 / LEAST_WORDS)
    assert evaluator.measure(at_the_limit + "word") < 100 / LEAST_WORDS


def test_what_is_to_be_strengthened_is_what_answers_lack(runner: ModelRunner) -> None:
    lengths = made(runner, "length", goal="strengthen")
    most = 0.75 * TOKENS
    assert lengths.baseline.name == "missing_words"
    # The first has more than is counted, and does not make up for the others.
    assert lengths.baseline.value == pytest.approx((0 + (most - 1) + most + (most - 3) + (most - 2)) / 5)
    density = made(runner, "density", goal="strengthen")
    assert density.baseline.name == "missing_hedging_a_lot"
    lacking = (MOST - 100 * 2 / 60, MOST - 100 / LEAST_WORDS, MOST, MOST, MOST)
    assert density.baseline.value == pytest.approx(sum(lacking) / 5)
    assert density.judge_all([(PROMPTS[0], "maybe " * 40)]) == [0]


@pytest.mark.parametrize("goal", ["remove", "strengthen"])
@pytest.mark.parametrize("name", ["length", "density"])
def test_a_sum_of_weighted_amounts_is_the_score(runner: ModelRunner, name: str, goal: str) -> None:
    """As the batched engine adds them up, answer by answer."""
    evaluator = made(runner, name, goal=goal)
    assert isinstance(evaluator, AnswerEvaluator)
    texts = [(prompt, ANSWERS[prompt.user]) for prompt in PROMPTS]
    alone = [evaluator.judge(text, complete=True) for _prompt, text in texts]
    assert alone == evaluator.judge_all(texts)
    assert all(amount is not None and amount >= 0 for amount in alone)
    total = sum(amount * evaluator.weight for amount in alone if amount is not None)
    assert evaluator.score_of(total).value == pytest.approx(evaluator.baseline.value)
    # More text may have more of it, or lack less.
    assert [evaluator.judge(text, complete=False) for _prompt, text in texts] == [None] * len(texts)


def test_every_answer_is_reported_with_its_amount(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = made(runner, "length")
    monkeypatch.setitem(ANSWERS, PROMPTS[4].user, "one two three four")
    seen: list[Event] = []
    with subscribed(seen.append):
        score = evaluator.score(trial=7)
    assert score.value == pytest.approx(evaluator.baseline.value + 2 / 5)
    assert score.baseline == evaluator.baseline.value
    events = [event for event in seen if isinstance(event, ResponseMeasured)]
    assert [(event.trial, event.verdict) for event in events] == [
        (7, f"{amount:.1f} words") for amount in (60, 1, 0, 3, 4)
    ]
    assert made(runner, "length", goal="strengthen").describe(2.0) == "2.0 words too few"
    assert made(runner, "density").describe(3.2) == "3.2 marks per 100 words"


def test_density_needs_patterns(runner: ModelRunner) -> None:
    with pytest.raises(ConfigurationError, match="needs patterns"):
        made(runner, "density", patterns=())


def test_the_registry_knows_both() -> None:
    assert EVALUATORS.get("length") is LengthEvaluator
    assert EVALUATORS.get("density") is DensityEvaluator


def test_on_a_model_the_score_is_that_of_its_own_answers() -> None:
    runner = make_runner("llama", batch_size=2)
    texts = [response.text for response in runner.generate(PROMPTS, 6)]
    character = next(character for character in texts[1] if character.isalnum())
    options = EvaluatorOptions(Settings(), PackOptions(tokens=6, patterns=(character,)), "x")
    density = DensityEvaluator(runner, PROMPT_SET, options)
    marks = [text.lower().count(character.lower()) for text in texts]
    assert sum(marks) > 0
    expected = [100 * count / max(len(text.split()), LEAST_WORDS) for count, text in zip(marks, texts, strict=True)]
    assert density.score().value == density.baseline.value == pytest.approx(sum(expected) / len(texts))
    words = LengthEvaluator(runner, PROMPT_SET, options)
    assert words.baseline.value == pytest.approx(sum(len(text.split()) for text in texts) / len(texts))
