"""Intervals against published values and against scipy's own."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from heretic.results.intervals import (
    detectable_change,
    detectable_difference,
    detectable_share,
    difference_interval,
    mean_interval,
    paired_interval,
    resampled_interval,
    wilson_interval,
)


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_mean_against_scipy() -> None:
    amounts = [1.0, 4.0, 4.5, 9.0, 0.0]
    expected = stats.ttest_1samp(amounts, 0).confidence_interval(0.95)
    assert mean_interval(amounts) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("amounts", [[3.0], [2.0, 2.0, 2.0]])
def test_no_spread(amounts: list[float]) -> None:
    assert mean_interval(amounts) == pytest.approx((amounts[0], amounts[0]))


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe (1998), example with 20, 12, 2 and 16 pairs.
        ((20, 12, 2, 16), 0.0562, 0.3292),
        # Airway hyper-responsiveness (Bentur et al. 2009), as in Fagerland, Lydersen and Laake (2014).
        ((1, 7, 1, 12), 0.026, 0.507),
    ],
)
def test_published_paired_intervals(table: tuple[int, int, int, int], low: float, high: float) -> None:
    digits = 4 if low == 0.0562 else 3
    assert [round(end, digits) for end in paired_interval(*table)] == [low, high]
    both, second, first, neither = table
    assert [round(end, digits) for end in paired_interval(both, first, second, neither)] == [-high, -low]


counts = st.integers(0, 40)


@given(counts, counts, counts, counts)
def test_an_interval_holds_its_difference_and_is_never_empty(both: int, second: int, first: int, neither: int) -> None:
    total = both + second + first + neither
    if total == 0:
        return
    low, high = paired_interval(both, second, first, neither)
    assert -1 <= low <= (second - first) / total + 1e-12
    assert (second - first) / total - 1e-12 <= high <= 1
    assert high > low


@pytest.mark.parametrize("shares", [(0.6, 0.05, 0.1, 0.25), (0.4, 0.1, 0.2, 0.3), (0.3, 0.05, 0.25, 0.4)])
def test_the_interval_covers_the_truth_at_least_95_times_in_100(shares: tuple[float, ...]) -> None:
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


@pytest.mark.parametrize(("changed", "count"), [(10, 204), (0, 204), (16, 204), (30, 1000)])
def test_a_detectable_difference_is_found_in_four_of_five_experiments(changed: int, count: int) -> None:
    difference = detectable_difference(changed, count)
    both = max(changed / count, difference)
    worse = (both + difference) / 2
    dice, found, experiments = random.Random(0), 0, 2000
    for _ in range(experiments):
        drawn = [dice.random() for _ in range(count)]
        only_first = sum(value < worse for value in drawn)
        only_second = sum(worse <= value < both for value in drawn)
        discordant = only_first + only_second
        found += stats.binom.cdf(min(only_first, only_second), discordant, 0.5) < 0.025
    # The exact test finds a little less than the formula's approximate one.
    assert 0.7 < found / experiments < 0.87


def test_a_few_items_show_no_difference() -> None:
    assert detectable_difference(0, 3) == 1
    assert detectable_difference(4, 204) < detectable_difference(16, 204) < detectable_difference(16, 100) < 1


def test_the_change_that_an_interval_would_have_shown() -> None:
    # Half the interval's width is 1.96 standard errors, and 1.96 + 0.84 of them are needed.
    assert detectable_change(-1.96, 1.96) == pytest.approx(1.95996 + 0.84162, abs=1e-3)


def test_an_interval_of_prompts_covers_the_mean_of_skewed_amounts() -> None:
    generator = random.Random(3)
    trials = [[math.exp(generator.gauss(0, 1)) for _ in range(80)] for _ in range(300)]
    intervals = [resampled_interval(amounts) for amounts in trials]
    covered = sum(low <= math.exp(0.5) <= high for low, high in intervals)
    # 95 % by name; amounts so skewed leave a little less of it.
    assert 0.89 <= covered / len(trials) <= 0.97
    assert resampled_interval(trials[0]) == intervals[0]
    assert resampled_interval([2.0, 2.0]) == (2.0, 2.0)
    assert min(low for low, _high in intervals) > 0


def test_a_share_that_is_likely_to_show_at_least_once() -> None:
    assert 1 - stats.binom.cdf(0, 40, detectable_share(40)) == pytest.approx(0.8)


def test_shares_of_unknown_pairs() -> None:
    # By hand: both intervals of 0 and of all are as wide.
    low, high = difference_interval(0, 10, 10)
    lower = wilson_interval(10, 10)[0]
    assert (low, high) == pytest.approx((1 - math.sqrt(2) * (1 - lower), 1.0))
    # Pairs that go together leave less open.
    wide, narrow = difference_interval(20, 26, 50), paired_interval(20, 6, 0, 24)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
