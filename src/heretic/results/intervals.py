"""95 % intervals of measured numbers, of what changed in pairs, and which change would have been seen. Pure."""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.95
UPPER = (1 + CONFIDENCE) / 2
"""The quantile that the upper bound of such an interval rests on."""
POWER = 0.8
"""How likely a change that is called detectable is to be found, where it is there."""
RESAMPLES = 2000
"""Of a bootstrap: the quantiles of fewer differ visibly from draw to draw."""
_HALVINGS = 40


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion, by Wilson's score method (Wilson 1927), which holds at 0 and at small counts.

    Args:
        count: How many of them.
        total: Of how many, at least 1.

    Returns:
        Lower and upper bound, 0 to 1.
    """
    # Not by scipy.stats, which takes a second to be imported.
    width = NormalDist().inv_cdf(UPPER)
    share, squared = count / total, width**2 / total
    middle = (share + squared / 2) / (1 + squared)
    half = width / (1 + squared) * math.sqrt((share * (1 - share) + squared / 4) / total)
    # Rounding must not leave a share where there is none, or all.
    return (0.0 if count == 0 else middle - half), (1.0 if count == total else middle + half)


def mean_interval(amounts: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean, by Student's t (Student 1908); of one amount, or of equal ones, the amount itself.

    Args:
        amounts: At least one.

    Returns:
        Lower and upper bound.
    """
    if min(amounts) == max(amounts):
        return amounts[0], amounts[0]
    from scipy.special import stdtrit

    mean = fmean(amounts)
    half = float(stdtrit(len(amounts) - 1, UPPER)) * stdev(amounts) / math.sqrt(len(amounts))
    return mean - half, mean + half


def resampled_interval(amounts: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean, by the percentiles of a bootstrap (Efron 1979); of equal amounts the amount itself.

    Divergences of prompts are skewed, and never negative: an interval by Student's t would reach below 0. The same
    draws serve all amounts of a number, so that the same amounts always have the same interval.

    Args:
        amounts: At least one.

    Returns:
        Lower and upper bound.
    """
    if min(amounts) == max(amounts):
        return amounts[0], amounts[0]
    import numpy as np

    means = _draws(len(amounts)) @ np.asarray(amounts)
    low, high = np.quantile(means, (1 - UPPER, UPPER))
    return float(low), float(high)


@lru_cache(maxsize=4)
def _draws(count: int) -> "NDArray[np.float64]":
    """By resample how often each of so many items is drawn, as a share of the draws."""
    import numpy as np

    return np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES) / count


def paired_interval(both: int, only_second: int, only_first: int, neither: int) -> tuple[float, float]:
    """95 % confidence interval of the second share minus the first, both of the same items.

    Wilson intervals of the two shares, joined by "square and add" with their correlation: method 10 of Newcombe,
    "Improved confidence intervals for the difference between binomial proportions based on paired data", Statistics in
    Medicine 17 (1998), doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C. Unlike percentiles of a
    bootstrap it holds for few items, and has a width where nothing changed.

    Args:
        both: Successes of both.
        only_second: Successes of the second alone.
        only_first: Successes of the first alone.
        neither: The rest.

    Raises:
        ZeroDivisionError: There are no items.
    """
    count = both + only_second + only_first + neither
    correlation = _correlation(both, only_second, only_first, neither)
    return _difference_interval(both + only_first, both + only_second, count, correlation)


def difference_interval(first: int, second: int, count: int) -> tuple[float, float]:
    """95 % interval of the second share minus the first, where it is not known which items both have in common.

    Of the same items it is too wide rather than too narrow, as these go together. Method 10 of Newcombe, "Interval
    estimation for the difference between independent proportions", Statistics in Medicine 17 (1998),
    doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I.

    Args:
        first: Successes of the first.
        second: Successes of the second.
        count: Of so many items each, at least 1.
    """
    return _difference_interval(first, second, count, 0.0)


def _difference_interval(first: int, second: int, count: int, correlation: float) -> tuple[float, float]:
    share1, share2 = first / count, second / count
    (low1, high1), (low2, high2) = wilson_interval(first, count), wilson_interval(second, count)
    difference = share2 - share1

    def joined(down: float, up: float) -> float:
        # Rounding may leave a negative number where the correlation is 1.
        return math.sqrt(max(down**2 - 2 * correlation * down * up + up**2, 0.0))

    low = difference - joined(share2 - low2, high1 - share1)
    high = difference + joined(high2 - share2, share1 - low1)
    return max(low, -1.0), min(high, 1.0)


def detectable_difference(changed: int, count: int) -> float:
    """The difference of two shares of the same items that McNemar's test finds with a power of 80 %.

    By the sample size of Connor, "Sample size for testing differences in proportions for the paired-sample design",
    Biometrics 43 (1987), doi:10.2307/2531961, where as many items change as did here, or as the difference takes.

    Args:
        changed: Items that only one of both gets right.
        count: All items, at least 1.

    Returns:
        From 0 to 1; 1 where so few items cannot show any.
    """
    certain, likely = NormalDist().inv_cdf(UPPER), NormalDist().inv_cdf(POWER)

    def needed(difference: float) -> float:
        both = max(changed / count, difference)
        return ((certain * math.sqrt(both) + likely * math.sqrt(both - difference**2)) / difference) ** 2

    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if needed(middle) <= count else (middle, high)
    return high


def detectable_share(count: int) -> float:
    """The share of all items of which some change that one of so many, at least 1, shows with a power of 80 %.

    Where none changed: the binomial probability that one does is 1 - (1 - share) ** count.
    """
    return 1 - math.pow(1 - POWER, 1 / count)


def detectable_change(low: float, high: float) -> float:
    """The change that would have been found with a power of 80 %, by the 95 % interval of what was measured.

    Half the interval is 1.96 standard errors, and 1.96 + 0.84 are needed: Lachin, "Introduction to sample size
    determination and power analysis for clinical trials", Controlled Clinical Trials 2 (1981).
    """
    certain, likely = NormalDist().inv_cdf(UPPER), NormalDist().inv_cdf(POWER)
    return (high - low) / 2 * (1 + likely / certain)


def _correlation(both: int, only_second: int, only_first: int, neither: int) -> float:
    """The phi coefficient of a 2x2 table, towards 0 where it is positive (Newcombe's continuity correction)."""
    count = both + only_second + only_first + neither
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    determinant = float(both * neither - only_second * only_first)
    if determinant > 0:
        determinant = max(determinant - count / 2, 0.0)
    return determinant / math.sqrt(margins)
