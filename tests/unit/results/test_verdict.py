"""What came out, in words."""

from dataclasses import replace

from heretic.results.held_out import Answers, AtLength, Estimate, HeldOut, HeldOutBehavior
from heretic.results.score import AnswerDetails, DivergenceDetails, Score, Scores
from heretic.results.verdict import gap, verdict

ANSWERS = Answers(20.0, 0, 0, 0, 0, 1.5)
EXCITEMENT = HeldOutBehavior(
    "excitement",
    "excitement",
    "marks per 100 words",
    40,
    (AtLength(100, Estimate(2.1, 1.5, 2.7), Estimate(0.3, 0.1, 0.6)),),
    ANSWERS,
    ANSWERS,
    Estimate(-1.8, -2.4, -1.2),
)
KL = Score("kl", 0.011, 40, 0.0, DivergenceDetails("sequence", 100))
SEARCHED = Scores((Score("excitement", 0.0, 6, 0.67, AnswerDetails(60), "marks per 100 words"),), KL)


def test_what_is_confirmed_is_said_with_its_interval_and_the_damage() -> None:
    assert verdict(HeldOut(100, (EXCITEMENT,), (KL,)), SEARCHED) == [
        "Excitement fell from 2.10 to 0.30 marks per 100 words (95 %: 0.10 to 0.60), on prompts that chose nothing.",
        "Everything else changed by a KL divergence of 0.0110 nats (first 100 tokens); 0 is nothing at all.",
        "Measured alike, the search saw KL 0.0110; held out: KL 0.0110.",
    ]


def test_what_does_not_hold_stands_beside_what_the_search_saw() -> None:
    same = Estimate(0.67, 0.2, 1.1)
    none = replace(EXCITEMENT, at=(AtLength(100, same, same),), change=Estimate(0.0, -0.2, 0.2))
    (sentence,) = verdict(HeldOut(100, (none,), ()), SEARCHED)
    assert sentence == (
        "Excitement: the search saw 0.67 -> 0.00 on 6 prompts; held out it is 0.67 -> 0.67 marks per 100 words on 40: "
        "not confirmed; a change of 0.29 would have been, with a power of 80 %."
    )
    assert verdict(HeldOut(100, (none,), ()), None)[0].startswith("Excitement: held out it is 0.67")


def test_counts_are_said_as_counts_and_a_rise_as_one() -> None:
    at = (AtLength(100, Estimate(3.0, 1.0, 8.0), Estimate(30.0, 22.0, 36.0)),)
    refusals = HeldOutBehavior("refusal", "refusals", "", 40, at, ANSWERS, ANSWERS, Estimate(27.0, 20.0, 31.0))
    (sentence,) = verdict(HeldOut(100, (refusals,), ()), None)
    assert sentence == "Refusals rose from 3/40 to 30/40 (95 %: 22.0 to 36.0), on prompts that chose nothing."


def test_what_has_to_stay_has_a_sentence_of_its_own() -> None:
    at = (AtLength(100, Estimate(40.0, 36.0, 40.0), Estimate(38.0, 33.0, 39.5)),)
    abstention = HeldOutBehavior("abstention", "kept abstention", "", 40, at, ANSWERS, ANSWERS)
    assert verdict(HeldOut(100, (EXCITEMENT,), (), kept=(abstention,)), SEARCHED)[1:] == [
        "Kept abstention: 2 of 40 kept answers changed, 38/40 (95 %: 33.0 to 39.5) stayed."
    ]
    whole = Estimate(40.0, 36.0, 40.0)
    unchanged = replace(abstention, at=(AtLength(100, whole, whole),))
    # 0.961 ** 40 is 0.2.
    assert verdict(HeldOut(100, (EXCITEMENT,), (), kept=(unchanged,)), SEARCHED)[1] == (
        "Kept abstention: 0 of 40 kept answers changed, 40/40 (95 %: 36.0 to 40.0) stayed; a change of 3.9 % of such "
        "answers would have been seen, with a power of 80 %."
    )


def test_the_gap_is_that_of_the_same_measures() -> None:
    searched = replace(SEARCHED, kl=Score("kl", 0.05, 6, 0.0, DivergenceDetails("sequence", 100)))
    at = (AtLength(60, Estimate(2.0, 1.5, 2.5), Estimate(0.4, 0.2, 0.7)), *EXCITEMENT.at)
    first = Score("kl", 0.2, 40, 0.0, DivergenceDetails("first", 1))
    held_out = HeldOut(100, (replace(EXCITEMENT, at=at),), (first, replace(KL, value=0.11)))
    assert gap(held_out, searched) == [
        "Measured alike, the search saw excitement 0.00 and KL 0.0500; held out: excitement 0.40 and KL 0.1100."
    ]
    assert verdict(held_out, searched)[-1] == gap(held_out, searched)[0]
    assert gap(HeldOut(100, (EXCITEMENT,), (first,)), searched) == []


def test_a_divergence_over_prompts_has_an_interval() -> None:
    details = replace(KL.divergence, by_prompt=tuple(0.011 * (1 + 0.9 * (-1) ** place) for place in range(40)))
    assert "nats (first 100 tokens; 95 %: 0.0" in verdict(HeldOut(100, (), (replace(KL, details=details),)), None)[0]
