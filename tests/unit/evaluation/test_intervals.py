"""Intervals against published values and against scipy's own."""

import pytest
from scipy import stats

from heretic.evaluation.intervals import mean_interval, wilson_interval


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
