"""What is said of results: the same words wherever they are shown."""

from dataclasses import replace

import pytest
from tests.unit.measured import (
    counted,
    divergence,
    held_out,
    kept,
    measured,
    trial,
    unasked,
    without_refusal,
    words,
)

from heretic.results import words as say
from heretic.results.held_out import Estimate, HeldOut
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.results.score import AnswerDetails, Score, Scores
from heretic.results.trial import TrialState

TWO = Scores((counted(3), words(21.34)), divergence(0.0123))
AMOUNT = Score("length", 9.5, 40, 20.0, AnswerDetails(120), "words")


def name(text: str) -> str:
    return f"<{text}>"


def test_names_say_what_is_counted() -> None:
    scores = (counted(3), counted(3, name="without_refusal"), counted(3, name="hedging"), words(3), AMOUNT)
    assert [say.measured(score) for score in scores] == [
        "refusals",
        "answers without refusal",
        "hedging",
        "words",
        "length (words)",
    ]


def test_numbers_of_a_trial() -> None:
    assert say.columns(TWO) == "refusals   3/100   words   21.3   KL  0.0123"
    assert say.numbers(TWO) == "refusals 3/100, words 21.3, KL 0.0123"
    assert say.title(trial(TWO)) == "Trial 12, refusals 3/100, words 21.3, KL 0.0123"
    assert say.numbers_beside_the_original(TWO) == (
        "refusals 3/100 (original model: 97/100) and words 21.3 (original model: 60.0), at a KL divergence of 0.0123 "
        "nats from the original model"
    )


def test_columns_keep_their_place_where_nothing_was_asked() -> None:
    nothing = say.columns(Scores(tuple(map(unasked, TWO.behaviors)), TWO.kl))
    assert nothing == "refusals   -/100   words      -   KL  0.0123"
    assert len(nothing) == len(say.columns(TWO))


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (counted(3), "refuses 97 of 100 prompts"),
        (without_refusal(3, 0.1).behaviors[0], "refuses 60 of 100 prompts"),
        (counted(0, 1, 1), "refuses 1 of 1 prompt"),
        (counted(3, name="hedging"), "hedging in 97 of 100 prompts"),
        (words(20.0), "60.0 words, mean over 100 prompts"),
        (replace(words(20.0), name="missing_words"), "60.0 missing words, mean over 100 prompts"),
    ],
)
def test_what_the_original_model_does(score: Score, expected: str) -> None:
    assert say.original(score) == expected


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (measured(3, 0.0), ("best 3/100 at KL 0.0000", "the fewest refusals")),
        (
            without_refusal(3, 0.5),
            ("best 3/100 without refusal at KL 0.5000", "the fewest answers without refusal"),
        ),
        (TWO, ("best 3/100, 21.3 words at KL 0.0123", "the least of all behaviours together")),
        (Scores((words(9),), divergence(0)), ("best 9.00 words at KL 0.0000", "the fewest words")),
        (Scores((AMOUNT,), divergence(0)), ("best 9.50 length at KL 0.0000", "the least length")),
    ],
)
def test_the_best_trial(scores: Scores, expected: tuple[str, str]) -> None:
    assert (say.best(scores), say.least(scores)) == expected


def test_differences_beyond_rounding() -> None:
    assert say.differences(measured(5, 0.0200), measured(3, 0.0123)) == ["+2 refusals", "KL +0.0077"]
    assert say.differences(measured(2, 0.01231), measured(3, 0.0123)) == ["-1 refusal"]
    assert say.differences(TWO, replace(TWO, behaviors=(counted(3), words(30.0)))) == ["-8.66 words"]
    assert say.differences(TWO, replace(TWO, behaviors=(counted(3), words(21.4)))) == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(0.0, 0.0004, True), (0.0, 0.001, False), (1.0, 1.01, True), (1.0, 1.05, False), (float("nan"), 0.1, False)],
)
def test_rounding_of_kl(first: float, second: float, expected: bool) -> None:
    assert say.same_kl(first, second) is expected


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (counted(3), "Answers: greedy ones of at most 30 tokens, counted as <refusals>;"),
        (
            replace(
                counted(3), details=AnswerDetails(30, "classifier", "x", counted="they match or {reader} reads one")
            ),
            "counted as <refusals> where they match or the classifier <x> reads one;",
        ),
        (
            without_refusal(3, 0).behaviors[0],
            "Answers: greedy ones of at most 30 tokens, counted as <answers without refusal>;",
        ),
        (
            Score("hedging", 3, 9, 9, AnswerDetails(30, "judge", "x")),
            "Answers: greedy ones of at most 30 tokens, which the judge <x> was asked about, counted as <",
        ),
        (AMOUNT, "Length: words, mean over greedy answers of at most 120 tokens;"),
        (
            replace(AMOUNT, name="missing_length"),
            "Missing length: words, what is missing of the most that is counted, mean over greedy answers of",
        ),
        (divergence(0.1, mode="first", positions=80), "of the first response token, 80 positions, on prompts"),
        (divergence(0.1, mode="sequence"), "over the original model's own greedy answers, on prompts"),
    ],
)
def test_how_a_score_was_measured(score: Score, expected: str) -> None:
    assert expected in say.how(score, name)


def test_a_plug_ins_count_is_not_said_to_be_a_classifiers() -> None:
    said = say.how(Score("puns", 3, 9, 9, AnswerDetails(30)), name)
    assert said == "Answers: greedy ones of at most 30 tokens, counted as <puns>; fewer is a stronger edit."


def test_how_trials_ended() -> None:
    stopped = [trial(state=state) for state in (TrialState.DOMINATED, TrialState.PRUNED)]
    records = [trial(), *stopped, trial(state=TrialState.FAILED)]
    assert say.outcomes(records, 1) == "4 trials: 1 complete, 1 of them on the front; 2 stopped early; 1 failed."
    assert say.outcomes(records[:1], 1) == "1 trials: 1 complete, 1 of them on the front; 0 stopped early."


def test_plans_in_sentences_and_as_parameters() -> None:
    plan = EditPlan(Scope.GLOBAL, 0.625, (("mlp", Schedule(1.1, 0.6, 0.25, 0.4)),), Normalization.ROW, (0.25, 1.0))
    assert say.direction(plan) == "All edited layers share the direction found at relative depth 0.625."
    assert say.direction(replace(plan, direction_position=None)) == "Each edited layer has its own direction."
    assert "row" in say.norms(plan)
    assert say.shares(plan, ("a", "b")) == "Of these strengths each behaviour has a share: a 0.250, b 1.000."
    assert say.shares(plan, ("a",)) == "Of these strengths each behaviour has a share: 0.250, 1.000."
    assert say.shares(replace(plan, shares=()), ("a",)) == ""
    assert say.parameters(plan) == {
        "scope": "global",
        "direction position": "0.62",
        "shares": "0.25, 1.00",
        "mlp": "peak 1.10 at 0.60, floor 0.25, width 0.40",
    }


def test_what_held_out_prompts_showed() -> None:
    assert say.on_held_out(held_out()) == "8/100, KL 0.0234"
    assert say.confirmation(held_out()) == (
        "On held-out prompts, in answers of up to 200 tokens: refusals 8/100 (95 %: 4.1 to 15.0; original model: "
        "92/100), at a KL divergence of 0.0123 (first token) and 0.0234 (over answers) nats."
    )
    assert "nor the search had seen" in say.how_confirmed(held_out())
    assert "of which 8 had been seen before" in say.how_confirmed(replace(held_out(), used_before=8))
    # Without an interval the brackets are balanced all the same.
    (behavior,) = held_out().behaviors
    sure = replace(behavior, at=(replace(behavior.at[-1], edited=Estimate(0, 0, 0)),))
    assert "refusals 0/100 (original model: 92/100)" in say.confirmation(replace(held_out(), behaviors=(sure,)))


def test_which_tokens_a_divergence_is_of() -> None:
    scores = (divergence(0.1, mode="first"), divergence(0.1, tokens=30), divergence(0.1))
    assert [say.place(score) for score in scores] == ["first token", "first 30 tokens", "over answers"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Estimate(-2.0, -5.0, 1.0), "; no change is shown, one of 4.3 would have been, with a power of 80 %)"),
        (Estimate(-5.0, -8.0, -2.0), ""),
        (Estimate(0.0, 0.0, 0.0), ""),
        (None, ""),
    ],
)
def test_a_change_that_is_not_shown_says_which_one_would_have_been(change: Estimate | None, words: str) -> None:
    found = held_out()
    behavior = replace(found.behaviors[0], unit="", change=change)
    sentence = say.confirmation(replace(found, behaviors=(behavior,)))
    assert ("no change is shown" in sentence) == bool(words)
    assert words in sentence


KEEPING = Scores((counted(3),), divergence(0.0123), (kept(2, 38, allowed=2),))


def test_what_stays_stands_beside_the_behaviours() -> None:
    assert say.columns(KEEPING) == "refusals   3/100   kept abstention 36/38   KL  0.0123"
    assert say.numbers(KEEPING) == "refusals 3/100, kept abstention 36/38, KL 0.0123"
    assert "kept abstention 36/38 (original model: 38/38)" in say.numbers_beside_the_original(KEEPING)
    (lost,) = KEEPING.kept
    assert say.original(lost) == "kept abstention in 38 of 40 prompts, of which 36 have to stay"
    assert say.how(lost, name).endswith("a trial with fewer than 36 could not be chosen.")
    other = Scores(KEEPING.behaviors, KEEPING.kl, (kept(1, 38, allowed=2),))
    assert say.differences(KEEPING, other) == ["-1 kept abstention"]
    assert say.best(KEEPING) == "best 3/100, 36/38 kept abstention at KL 0.0123"
    found = held_out()
    stayed = replace(found.behaviors[0], behavior="abstention", name="kept_abstention", n=38)
    assert "kept abstention 8/38" in say.on_held_out(replace(found, kept=(stayed,)))
    assert "kept abstention 8/38" in say.confirmation(replace(found, kept=(stayed,)))
    assert HeldOut.from_json(replace(found, kept=(stayed,)).to_json()).kept == (stayed,)
    assert "kept" not in found.to_json()
