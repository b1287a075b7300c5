"""Which differences of two trials noise explains."""

from dataclasses import replace

import pytest
from tests.unit.measured import counted, divergence, measured, trial, words

from heretic.results import pairs
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialRecord

PROMPTS = 40


def spread(value: float, turn: int = 0, **details: str) -> Score:
    """A divergence whose prompts differ from each other by far more than trials do."""
    amounts = tuple(value * (1 + 0.9 * (-1) ** (place // (turn + 1))) for place in range(PROMPTS))
    return divergence(value, PROMPTS, mode="sequence", by_prompt=amounts, **details)


def edit(refusals: float, kl: Score, number: int = 0) -> TrialRecord:
    return trial(Scores((counted(refusals),), kl), number)


def test_an_interval_is_that_of_prompts() -> None:
    low, high = pairs.kl_interval(spread(0.1)) or (0.0, 0.0)
    assert 0.06 < low < 0.09 < 0.11 < high < 0.14
    assert pairs.kl_interval(divergence(0.1)) is None
    assert pairs.interval_text(spread(0.1)) == f"{low:.4f} to {high:.4f}"
    assert pairs.interval_text(spread(0.00002)) == f"{low / 5000:.6f} to {high / 5000:.6f}"
    assert pairs.interval_text(divergence(0.1)) == ""


def test_pairs_tell_apart_what_means_do_not() -> None:
    first, second = spread(0.10), spread(0.11)
    difference = pairs.kl_difference(first, second)
    assert difference is not None
    assert difference.value == pytest.approx(0.01)
    assert 0 < difference.low < 0.01 < difference.high
    interval, other = pairs.kl_interval(first), pairs.kl_interval(second)
    assert interval is not None
    assert other is not None
    assert other[0] < interval[1]
    assert pairs.kl_difference(first, divergence(0.11, PROMPTS, mode="sequence")) is None
    assert pairs.kl_difference(first, replace(second, details=replace(second.divergence, mode="first"))) is None


def test_trials_that_noise_does_not_tell_apart() -> None:
    chosen = edit(3, spread(0.10), 1)
    chance, fewer, milder = edit(5, spread(0.101, 1), 2), edit(30, spread(0.101, 1), 3), edit(3, spread(0.05), 4)
    unknown = trial(measured(3, 0.1), 5)
    front = [chosen, chance, fewer, milder]
    assert pairs.not_told_apart(front, chosen) == [chance]
    assert pairs.sentence(front, chosen).startswith("Not told apart from trial 2: 3; ")
    assert pairs.sentence([chosen, milder], chosen) == ""
    assert pairs.is_told_apart(chosen.measured, unknown.measured) is None


def test_amounts_without_a_known_spread_are_not_said_to_be_alike() -> None:
    scores = Scores((words(20.0),), spread(0.1))
    assert pairs.is_told_apart(scores, Scores((words(20.1),), spread(0.1))) is None
    assert pairs.is_told_apart(scores, Scores((words(20.0),), spread(0.2))) is True


def test_a_difference_in_a_sentence() -> None:
    apart = pairs.difference_sentence(("trial 3", spread(0.10)), ("trial 12", spread(0.11)))
    assert apart.startswith("KL of trial 12 beside trial 3, prompt by prompt: +0.0100 nats (95 %: +0.00")
    alike = pairs.difference_sentence(("trial 3", spread(0.10)), ("trial 12", spread(0.10, 1)))
    assert "not told apart; one of 0." in alike
    assert pairs.difference_sentence(("a", divergence(0.1)), ("b", divergence(0.1))) == ""
