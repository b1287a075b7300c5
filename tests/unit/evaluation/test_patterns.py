"""Patterns: a verdict that words show, or so many matches."""

from typing import Any

import pytest
from pydantic import ValidationError

from heretic.common.errors import ConfigurationError
from heretic.config import Settings
from heretic.evaluation.evaluator import EvaluatorOptions
from heretic.evaluation.evaluators.patterns import PatternEvaluator, PatternOptions
from heretic.prompts.packs import PackOptions
from heretic.prompts.types import Prompt, PromptSet

ASKED = PromptSet("asked", (Prompt("Who and when?"), Prompt("List them."), Prompt("Call me.")))
ANSWERS = ("Ada, in 1843.", "\n1. a\n2. b\n3. c", "I can't call anybody.")


def amounts(answers: tuple[str, ...] = ANSWERS, **told: Any) -> list[float]:
    options = EvaluatorOptions(Settings(), PackOptions(**told), "doubt")
    evaluator = PatternEvaluator(ASKED, answers, options)
    found = evaluator.judge_all(list(zip(ASKED.prompts, answers, strict=True)))
    assert evaluator.baseline.value == sum(found)
    return found


def test_one_match_is_enough_unless_more_are_asked_for() -> None:
    assert amounts(patterns=[r"\bcan't\b"]) == [0, 0, 1]
    assert amounts(patterns=[r"(?:^|\n)\d\."]) == [0, 1, 0]
    assert amounts(patterns=[r"(?:^|\n)\d\."], least=3) == [0, 1, 0]
    assert amounts(patterns=[r"(?:^|\n)\d\."], least=4) == [0, 0, 0]


def test_typographic_quotes_are_read_as_plain_ones() -> None:
    assert amounts((*ANSWERS[:2], "I can\u2019t."), patterns=["can't"]) == [0, 0, 1]


def test_a_longer_answer_may_take_a_match_back() -> None:
    evaluator = PatternEvaluator(ASKED, ANSWERS, EvaluatorOptions(Settings(), PackOptions(patterns=["no$"]), "doubt"))
    assert evaluator.judge("no", complete=False) is None
    assert evaluator.judge("no", complete=True) == 1


def test_studies_are_told_apart_by_every_option() -> None:
    told = [{}, {"least": 2}, {"patterns": ["b"]}, {"tokens": 5}]
    identities = [PatternOptions.model_validate({"patterns": ["a"], **changes}).identity() for changes in told]
    assert all(identities.count(identity) == 1 for identity in identities)


@pytest.mark.parametrize("told", [{}, {"patterns": []}, {"patterns": ["("]}])
def test_what_can_find_nothing_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises((ConfigurationError, ValidationError)):
        PatternOptions.model_validate(told)
