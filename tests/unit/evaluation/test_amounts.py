"""Length and density: mean amounts of answers, or, to strengthen, what answers lack."""

from typing import Any

import pytest
from tests.unit.behaviors import pack
from tests.unit.passes.pico_runner import PROMPT_SET, PROMPTS

from heretic.common.errors import ConfigurationError
from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS, Evaluator, EvaluatorOptions
from heretic.evaluation.evaluators.density import LEAST_WORDS, MOST, DensityEvaluator
from heretic.evaluation.evaluators.length import LengthEvaluator
from heretic.evaluation.pack_check import check_evaluator
from heretic.observability.events import Event, ResponseMeasured, subscribed
from heretic.prompts.packs import PackOptions
from heretic.results.score import AnswerDetails

LONG = "Maybe it is so, maybe not: " + "word " * 54
ANSWERS = dict(zip([prompt.user for prompt in PROMPTS], (LONG, "Maybe.", "", "It is 4.", "one two"), strict=True))
"""60 words with two marks, one word with one mark, nothing, three words, two words."""
MARKS = ("maybe",)
TOKENS = 40


def made(name: str, patterns: tuple[str, ...] = MARKS, **changes: Any) -> Evaluator:
    settings = Settings(refusal_check_tokens=TOKENS, **changes)
    options = EvaluatorOptions(settings, PackOptions(patterns=patterns), "hedging-a-lot")
    return EVALUATORS.get(name)(PROMPT_SET, list(ANSWERS.values()), options)


def test_words_are_what_spaces_separate() -> None:
    evaluator = made("length")
    baseline = evaluator.baseline
    assert baseline.value == pytest.approx((60 + 1 + 0 + 3 + 2) / 5)
    assert (baseline.name, baseline.unit, baseline.n, baseline.baseline) == ("words", "words", 5, baseline.value)
    assert baseline.details == AnswerDetails(TOKENS)
    assert evaluator.amount("a  b\n\nc\td") == 4


def test_marks_are_counted_by_100_words() -> None:
    evaluator = made("density")
    # One mark in a short answer is one in so many words.
    amounts = (100 * 2 / 60, 100 / LEAST_WORDS, 0, 0, 0)
    assert evaluator.baseline.value == pytest.approx(sum(amounts) / 5)
    assert (evaluator.baseline.name, evaluator.baseline.unit) == ("hedging_a_lot", "marks per 100 words")
    assert evaluator.baseline.label == "hedging a lot"
    at_the_limit = "maybe " + "word " * (LEAST_WORDS - 1)
    assert evaluator.amount(at_the_limit) == pytest.approx(100 / LEAST_WORDS)
    assert evaluator.amount(at_the_limit + "word") < 100 / LEAST_WORDS


def test_what_is_to_be_strengthened_is_what_answers_lack() -> None:
    lengths = made("length", goal="strengthen")
    most = 0.75 * TOKENS
    assert lengths.baseline.name == "missing_words"
    # The first has more than is counted, and does not make up for the others.
    assert lengths.baseline.value == pytest.approx((0 + (most - 1) + most + (most - 3) + (most - 2)) / 5)
    density = made("density", goal="strengthen")
    assert density.baseline.name == "missing_hedging_a_lot"
    lacking = (MOST - 100 * 2 / 60, MOST - 100 / LEAST_WORDS, MOST, MOST, MOST)
    assert density.baseline.value == pytest.approx(sum(lacking) / 5)
    assert density.judge_all([(PROMPTS[0], "maybe " * 40)]) == [0]


@pytest.mark.parametrize("goal", ["remove", "strengthen"])
@pytest.mark.parametrize("name", ["length", "density"])
def test_a_sum_of_weighted_amounts_is_the_score(name: str, goal: str) -> None:
    """As the batched engine adds them up, answer by answer."""
    evaluator = made(name, goal=goal)
    texts = [(prompt, ANSWERS[prompt.user]) for prompt in PROMPTS]
    alone = [evaluator.judge(text, complete=True) for _prompt, text in texts]
    assert alone == evaluator.judge_all(texts)
    assert all(amount is not None and amount >= 0 for amount in alone)
    total = sum(amount * evaluator.weight for amount in alone if amount is not None)
    assert evaluator.score_of(total).value == pytest.approx(evaluator.baseline.value)
    # More text may have more of it, or lack less.
    assert [evaluator.judge(text, complete=False) for _prompt, text in texts] == [None] * len(texts)


def test_every_answer_is_reported_with_its_amount() -> None:
    seen: list[Event] = []
    with subscribed(seen.append):
        made("length")
    events = [event for event in seen if isinstance(event, ResponseMeasured)]
    assert [(event.trial, event.verdict) for event in events] == [
        (None, f"{amount:.1f} words") for amount in (60, 1, 0, 3, 2)
    ]
    assert made("length", goal="strengthen").describe(2.0) == "2.0 words too few"
    assert made("density").describe(3.2) == "3.2 marks per 100 words"


def test_density_needs_patterns() -> None:
    with pytest.raises(ConfigurationError, match="needs patterns"):
        check_evaluator(pack("hedging", "density", patterns=()))


def test_the_registry_knows_both() -> None:
    assert EVALUATORS.get("length") is LengthEvaluator
    assert EVALUATORS.get("density") is DensityEvaluator
