"""A score says what its numbers are, and survives being stored."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.measured import counted, divergence, kept, without_refusal, words

from heretic.results.objective import Objective
from heretic.results.score import AnswerDetails, DivergenceDetails, Score, Scores, checked

NUMBERS = st.floats(0, 1e6)


def test_kinds_are_told_by_name_and_unit() -> None:
    kinds = {
        score.label: (score.is_divergence, score.counts_answers)
        for score in (counted(3), words(20.5), divergence(0.5), *without_refusal(3, 0.5).behaviors)
    }
    assert kinds == {
        "refusals": (False, True),
        "words": (False, False),
        "kl": (True, False),
        "without refusal": (False, True),
    }


@pytest.mark.parametrize(
    ("score", "scale", "share"),
    [
        (counted(10, 100, baseline=40), 40, 0.25),
        (counted(40, 100, baseline=40), 40, 1),
        # Nothing is divided by 0: where the original model shows nothing, counts are told as they are.
        (counted(3, 100, baseline=0), 1, 3),
        (words(30.0, baseline=60.0), 60, 0.5),
        # A mean below 1 is as good a scale as any.
        (words(0.1, baseline=0.4), 0.4, 0.25),
        (words(0.1, baseline=0.0), 1, 0.1),
    ],
)
def test_the_share_is_one_of_the_original_models(score: Score, scale: float, share: float) -> None:
    assert score.scale == pytest.approx(scale)
    assert score.share == pytest.approx(share)


@given(NUMBERS, NUMBERS, st.booleans())
def test_the_scale_is_above_nothing_and_orders_as_values_do(value: float, baseline: float, is_amount: bool) -> None:
    unit = "words" if is_amount else ""
    score, more = (Score("x", own, 9, baseline, unit=unit) for own in (value, value + 1))
    assert score.scale > 0
    assert 0 <= score.share <= more.share
    if baseline >= 1:
        assert Score("x", baseline, 9, baseline, unit=unit).share == 1


@pytest.mark.parametrize("score", [counted(3), words(20.5), divergence(0.5, p95=1.5)])
def test_a_score_survives_json(score: Score) -> None:
    text = json.dumps(score.to_json())
    assert Score.from_json(json.loads(text)) == score


def test_refusals_are_refusals_whatever_is_counted() -> None:
    refusing, answering = counted(30, 100, 97), counted(30, 100, 40, "without_refusal")
    assert (refusing.refusals, refusing.baseline_refusals) == (30, 97)
    assert (answering.refusals, answering.baseline_refusals) == (70, 60)


def test_scores_of_a_trial_are_behaviours_and_divergence() -> None:
    several = (counted(3), words(20.5), divergence(0.5))
    scores = Scores.from_json([score.to_json() for score in several])
    assert scores == Scores(several[:2], several[2])
    assert (tuple(scores), scores.values) == (several, (3, 20.5, 0.5))
    assert scores.share == pytest.approx(3 / 97 + 20.5 / 60)
    assert Scores.from_json([]) is None
    with pytest.raises(ValueError, match="kl"):
        Scores.from_json([score.to_json() for score in several[:2]])


@pytest.mark.parametrize(
    ("name", "stored", "details"),
    [
        ("refusals", {"tokens": 30}, AnswerDetails(30)),
        ("refusals", {"tokens": 30, "classifier": "a/b", "answered": 4}, AnswerDetails(30, "classifier", "a/b", 4)),
        ("hedging", {"tokens": 9, "judge": "c"}, AnswerDetails(9, "judge", "c")),
        ("hedging", {"tokens": 9, "oracle": "c", "reader": "oracle"}, AnswerDetails(9, "oracle", "c")),
        ("mine", {"own": [1]}, AnswerDetails(further={"own": [1]})),
        (
            "kl",
            {"mode": "first", "tokens": 1, "p95": 0.5, "top1_agreement": 0.75, "positions": 80},
            DivergenceDetails("first", 1, 0.5, 0.75, 80),
        ),
        ("kl", {"mode": "first", "by_prompt": [0.5, 1]}, DivergenceDetails("first", by_prompt=(0.5, 1.0))),
        ("kl", {}, DivergenceDetails()),
    ],
)
def test_details_are_read_as_any_version_stored_them(name: str, stored: dict, details: object) -> None:
    score = Score.from_json({"name": name, "value": 1.0, "n": 9, "baseline": 2.0, "details": stored})
    assert score.details == details
    # Keys are only ever added.
    assert score.to_json()["details"].items() >= stored.items()
    assert Score.from_json(score.to_json()) == score


@pytest.mark.parametrize("by_prompt", ["0.5", [None], [0.5, "1"], [math.nan], [0.5, math.inf]])
def test_divergences_of_prompts_that_are_none_are_refused(by_prompt: object) -> None:
    stored = {"name": "kl", "value": 1.0, "n": 2, "baseline": 0.0, "details": {"by_prompt": by_prompt}}
    with pytest.raises(ValueError, match="diverg"):
        Score.from_json(stored)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"value": None}, "value of refusals .* is missing"),
        ({"value": "3"}, "value of refusals .* of type str"),
        ({"value": math.nan}, "finite number"),
        ({"value": math.inf}, "finite number"),
        ({"value": 10**400}, "finite number"),
        ({"value": True}, "finite number"),
        ({"value": 2.5}, "whole number"),
        ({"value": 101}, "whole number from 0 to 100"),
        ({"baseline": math.nan}, "original model"),
        ({"n": 0}, "number of prompts"),
        ({"name": 3}, "name of a score"),
        ({"unit": None}, "unit"),
        ({"details": {}}, "details"),
        ({"details": AnswerDetails(further={"a": math.nan})}, "no JSON"),
        ({"details": AnswerDetails(further={"a": {1}})}, "no JSON"),
    ],
    ids=str,
)
def test_what_is_no_score_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked(replace(counted(3, 100), **changes))


def test_scalars_become_numbers_of_python() -> None:
    score = checked(replace(words(1.5), value=np.float32(2.5), n=np.int64(4), baseline=torch.tensor(3)))
    assert [(type(number), number) for number in (score.value, score.n, score.baseline)] == [
        (float, 2.5),
        (int, 4),
        (int, 3),
    ]
    with pytest.raises(ValueError, match="must be a Score"):
        checked(3)


def test_what_has_to_stay_is_told_as_what_stayed() -> None:
    lost = kept(2, 38, allowed=1)
    assert (lost.amount(), lost.amount(lost.baseline), lost.told, lost.share) == ("36/38", "38/38", 36, 2 / 38)
    assert (lost.excess, lost.is_allowed) == (1, False)
    assert (kept(1, 38, allowed=1).excess, kept(1, 38, allowed=1).is_allowed) == (0, True)
    minimised = kept(38, 38, allowed=None)
    assert (minimised.excess, minimised.is_allowed) == (None, True)
    for score in (lost, minimised):
        assert Score.from_json(json.loads(json.dumps(score.to_json()))) == score
    assert "keep" not in counted(3).to_json()
    with pytest.raises(ValueError, match="asked"):
        Score.from_json(lost.to_json() | {"keep": {"asked": "many"}})


def test_only_what_is_not_bounded_is_minimised() -> None:
    bound, objective = (
        Scores((counted(3),), divergence(0.5), (kept(2, 38, allowed=allowed),)) for allowed in (1, None)
    )
    assert (bound.values, objective.values) == ((3, 0.5), (3, 2, 0.5))
    assert (bound.is_allowed, objective.is_allowed) == (False, True)
    for scores in (bound, objective):
        assert [score.name for score in scores] == ["refusals", "kept_abstention", "kl"]
        assert Scores.from_json(json.loads(json.dumps(scores.to_json()))) == scores
    weighted = Objective(0.5, behaviors=2)
    assert weighted.values(objective) == [3 / 97 + 2 / 38 + 0.25]
