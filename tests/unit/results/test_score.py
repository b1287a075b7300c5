"""A score says what its numbers are, and survives being stored."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.measured import counted, divergence, without_refusal, words

from heretic.results.score import Score, behaviors_of, divergence_of

NUMBERS = st.floats(0, 1e6)


def test_kinds_are_told_by_name_and_unit() -> None:
    kinds = {
        score.label: (score.is_divergence, score.counts_answers)
        for score in (counted(3), words(20.5), divergence(0.5), without_refusal(3, 0.5)[0])
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
        # Nothing is divided by 0: where the unedited model shows nothing, counts are told as they are.
        (counted(3, 100, baseline=0), 1, 3),
        (words(30.0, baseline=60.0), 60, 0.5),
        # A mean below 1 is as good a scale as any.
        (words(0.1, baseline=0.4), 0.4, 0.25),
        (words(0.1, baseline=0.0), 1, 0.1),
    ],
)
def test_the_share_is_one_of_the_unedited_models(score: Score, scale: float, share: float) -> None:
    assert score.scale == pytest.approx(scale)
    assert score.share == pytest.approx(share)


@given(NUMBERS, NUMBERS, st.booleans())
def test_the_scale_is_above_nothing_and_orders_as_values_do(value: float, baseline: float, is_amount: bool) -> None:
    unit = "words" if is_amount else ""
    score, more = (Score("x", own, 9, baseline, {}, unit) for own in (value, value + 1))
    assert score.scale > 0
    assert 0 <= score.share <= more.share
    if baseline >= 1:
        assert Score("x", baseline, 9, baseline, {}, unit).share == 1


@pytest.mark.parametrize("score", [counted(3), words(20.5), divergence(0.5, p95=1.5)])
def test_a_score_survives_json(score: Score) -> None:
    text = json.dumps(score.to_json())
    assert Score.from_json(json.loads(text)) == score
    # As earlier versions wrote it, and read it.
    assert ("unit" in json.loads(text)) is bool(score.unit)


def test_refusals_are_refusals_whatever_is_counted() -> None:
    refusing, answering = counted(30, 100, 97), counted(30, 100, 40, "without_refusal")
    assert (refusing.refusals, refusing.baseline_refusals) == (30, 97)
    assert (answering.refusals, answering.baseline_refusals) == (70, 60)


def test_scores_of_a_trial_are_behaviours_and_divergence() -> None:
    scores = (counted(3), words(20.5), divergence(0.5))
    assert behaviors_of(scores) == scores[:2]
    assert divergence_of(scores) is scores[2]
    assert behaviors_of(scores[2:]) == ()
    with pytest.raises(KeyError, match="kl"):
        divergence_of(scores[:2])
