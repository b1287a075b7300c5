"""The statistics agree with published examples, hold what they promise, and count what they say."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heretic.capability.comparison import OVERALL, compare_answers, paired_interval, wilson


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe (1998), example with 20, 12, 2 and 16 pairs.
        ((20, 12, 2, 16), 0.0562, 0.3292),
        # Airway hyper-responsiveness (Bentur et al. 2009), as in Fagerland, Lydersen and Laake (2014).
        ((1, 7, 1, 12), 0.026, 0.507),
    ],
)
def test_published_intervals(table, low, high):
    digits = 4 if low == 0.0562 else 3
    assert [round(end, digits) for end in paired_interval(*table)] == [low, high]
    both, second, first, neither = table
    assert [round(end, digits) for end in paired_interval(both, first, second, neither)] == [-high, -low]


def test_wilson_interval_of_a_textbook_example():
    # 81 of 263, Newcombe (1998), "Two-sided confidence intervals for the single proportion".
    assert [round(end, 4) for end in wilson(81, 263)] == [0.2553, 0.3662]


counts = st.integers(0, 40)


@given(counts, counts, counts, counts)
def test_an_interval_holds_its_difference_and_is_never_empty(both, second, first, neither):
    total = both + second + first + neither
    if total == 0:
        return
    low, high = paired_interval(both, second, first, neither)
    assert -1 <= low <= (second - first) / total + 1e-12
    assert (second - first) / total - 1e-12 <= high <= 1
    assert high > low


@pytest.mark.parametrize("shares", [(0.6, 0.05, 0.1, 0.25), (0.4, 0.1, 0.2, 0.3), (0.3, 0.05, 0.25, 0.4)])
def test_the_interval_covers_the_truth_at_least_95_times_in_100(shares):
    """Exact probability over all tables of 14 pairs."""
    total, covered = 14, 0.0
    for both in range(total + 1):
        for second in range(total - both + 1):
            for first in range(total - both - second + 1):
                table = (both, second, first, total - both - second - first)
                low, high = paired_interval(*table)
                if low <= shares[1] - shares[2] <= high:
                    ways = math.factorial(total) / math.prod(math.factorial(count) for count in table)
                    covered += ways * math.prod(share**count for share, count in zip(shares, table, strict=True))
    assert 0.945 <= covered < 1


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
    assert category["base_interval"] == list(wilson(2, 2))
    assert category["edited_interval"] == list(wilson(1, 2))
    assert category["interval"] == list(paired_interval(1, 0, 1, 0))
