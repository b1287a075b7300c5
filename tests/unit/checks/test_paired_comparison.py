"""The statistics agree with published examples, hold what they promise, and count what they say."""

import json

import pytest

from heretic.checks.paired_comparison import OVERALL, compare_answers
from heretic.evaluation.intervals import paired_interval, wilson_interval


def test_answers_are_counted_by_category_and_in_all():
    #          right both, wrong->right, wrong->other wrong | right->wrong, wrong both alike
    categories = ["a", "a", "a", "b", "b"]
    right, base, edited = [0, 1, 2, 3, 0], [0, 2, 0, 3, 1], [0, 1, 1, 2, 1]
    found = compare_answers(categories, right, base, edited)
    assert found.overall.name == OVERALL
    a, b = found.categories
    assert (a.name, a.both, a.became_wrong, a.became_right, a.neither, a.changed) == ("a", 1, 0, 1, 1, 2)
    assert (b.name, b.both, b.became_wrong, b.became_right, b.neither, b.changed) == ("b", 0, 1, 0, 1, 1)
    assert (a.base, a.edited) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (b.base, b.edited, b.difference) == (0.5, 0.0, -0.5)
    assert (found.overall.base, found.overall.edited, found.overall.difference) == (0.4, 0.4, 0.0)
    assert found.overall.changed == 3
    assert b.interval == paired_interval(0, 0, 1, 1)
    assert b.interval[0] < -0.5 < b.interval[1]


def test_mcnemar_is_exact():
    # One mended and eight spoilt: twice the tail of nine coins, (1 + 9) / 512.
    right = [0] * 12
    found = compare_answers(["a"] * 12, right, [1] + [0] * 11, [0] + [1] * 8 + [0] * 3)
    assert (found.overall.became_right, found.overall.became_wrong) == (1, 8)
    assert found.overall.p_value == pytest.approx(20 / 512)
    assert compare_answers(["a"], [0], [0], [0]).overall.p_value == 1.0


def test_different_lengths_are_no_pairs():
    with pytest.raises(ValueError, match="argument"):
        compare_answers(["a", "a"], [0, 0], [0, 0], [0])


def test_json_has_everything():
    given_back = json.loads(json.dumps(compare_answers(["a", "a"], [0, 1], [0, 1], [0, 2]).to_json()))
    (category,) = given_back["categories"]
    assert {**category, "name": OVERALL} == given_back["overall"]
    assert (category["n"], category["base"], category["edited"], category["difference"]) == (2, 1.0, 0.5, -0.5)
    assert (category["became_wrong"], category["became_right"], category["changed"]) == (1, 0, 1)
    assert category["base_interval"] == list(wilson_interval(2, 2))
    assert category["edited_interval"] == list(wilson_interval(1, 2))
    assert category["interval"] == list(paired_interval(1, 0, 1, 0))
