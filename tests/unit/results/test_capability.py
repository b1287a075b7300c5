"""What was compared agrees with published examples, counts what it says, and survives being stored."""

import json
from dataclasses import replace

import pytest
from tests.unit.measured import capability

from heretic.results.capability import OVERALL, Capability, PairedAnswers, compare_answers
from heretic.results.intervals import paired_interval, wilson_interval


def test_answers_are_counted_by_category_and_in_all() -> None:
    #          right both, wrong->right, wrong->other wrong | right->wrong, wrong both alike
    categories = ["a", "a", "a", "b", "b"]
    right, base, edited = [0, 1, 2, 3, 0], [0, 2, 0, 3, 1], [0, 1, 1, 2, 1]
    overall, a, b = compare_answers(categories, right, base, edited)
    assert a == PairedAnswers("a", both=1, became_wrong=0, became_right=1, neither=1, changed=2)
    assert b == PairedAnswers("b", both=0, became_wrong=1, became_right=0, neither=1, changed=1)
    assert (a.base, a.edited) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (b.base, b.edited, b.difference) == (0.5, 0.0, -0.5)
    assert (overall.name, overall.base, overall.edited, overall.difference) == (OVERALL, 0.4, 0.4, 0.0)
    assert overall.changed == 3
    assert b.interval == paired_interval(0, 0, 1, 1)
    assert b.interval[0] < -0.5 < b.interval[1]


def test_mcnemar_is_exact() -> None:
    # One mended and eight spoilt: twice the tail of nine coins, (1 + 9) / 512.
    overall, *_categories = compare_answers(["a"] * 12, [0] * 12, [1] + [0] * 11, [0] + [1] * 8 + [0] * 3)
    assert (overall.became_right, overall.became_wrong) == (1, 8)
    assert overall.p_value == pytest.approx(20 / 512)
    assert compare_answers(["a"], [0], [0], [0])[0].p_value == 1.0


def test_different_lengths_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="argument"):
        compare_answers(["a", "a"], [0, 0], [0, 0], [0])


def test_json_has_everything_and_is_read_again() -> None:
    stored = json.loads(json.dumps(capability().to_json()))
    assert Capability.from_json(stored) == capability()
    assert Capability.from_json({**stored, "questions": None}).questions is None
    (category,) = stored["questions"]["categories"]
    assert {**category, "name": OVERALL} == stored["questions"]["overall"]
    assert category == {
        "name": "high_school_computer_science",
        "n": 2,
        "base": 1.0,
        "base_interval": list(wilson_interval(2, 2)),
        "edited": 0.5,
        "edited_interval": list(wilson_interval(1, 2)),
        "difference": -0.5,
        "interval": list(paired_interval(1, 0, 1, 0)),
        "p_value": 1.0,
        "became_right": 0,
        "became_wrong": 1,
        "changed": 1,
    }
    assert stored["benchmarks"][0] == {
        "task": "arc_easy",
        "metric": "acc_norm",
        "filter": "none",
        "n": 20,
        "higher_is_better": True,
        "base": 0.5,
        "base_error": 0.1,
        "edited": 0.25,
        "edited_error": 0.1,
        "difference": -0.25,
        "interval": [-0.5, 0.1],
    }
    assert (stored["questions"]["few_shot"], stored["benchmark_limit"]) == ({"high_school_computer_science": 3}, 20)


@pytest.mark.parametrize("changes", [{"n": 0}, {"became_wrong": 5}, {"base": 2.0}, {"n": "many"}])
def test_foreign_numbers_that_do_not_add_up_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=r"answers do not add up|invalid literal"):
        PairedAnswers.from_json({**compare_answers(["a"], [0], [0], [0])[0].to_json(), **changes})


def test_a_later_check_of_a_trial_keeps_what_it_does_not_measure() -> None:
    first = capability()
    arc, gsm8k, wikitext = first.benchmarks
    later = replace(first, questions=None, benchmarks=(replace(gsm8k, edited=0.75),), limit=None)
    both = first.joined(later)
    assert both.questions == first.questions
    # Of what both measured the later numbers count.
    assert both.benchmarks == (arc, wikitext, later.benchmarks[0])
    assert both.limit is None
    assert later.joined(replace(first, benchmarks=())).questions == first.questions
