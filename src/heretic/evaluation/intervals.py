"""95 % intervals of measured numbers. Pure."""

import math
from collections.abc import Sequence
from statistics import NormalDist

from scipy import stats

_LEVEL = 0.95
_NORMAL_QUANTILE = NormalDist().inv_cdf((1 + _LEVEL) / 2)


def wilson_interval(count: float, total: int) -> tuple[float, float]:
    """95 % interval of a proportion, by Wilson's score method (Wilson 1927), which holds at 0 and at small counts.

    Args:
        count: How many of them.
        total: Of how many, at least 1.

    Returns:
        Lower and upper bound, 0 to 1.
    """
    z = _NORMAL_QUANTILE
    share = count / total
    center = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max((center - spread) / scale, 0.0), min((center + spread) / scale, 1.0)


def mean_interval(amounts: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean, by Student's t (Student 1908); of one amount, or of equal ones, the amount itself.

    Args:
        amounts: At least one.

    Returns:
        Lower and upper bound.
    """
    mean = math.fsum(amounts) / len(amounts)
    error = 0.0
    if len(amounts) > 1:
        variance = math.fsum((amount - mean) ** 2 for amount in amounts) / (len(amounts) - 1)
        error = math.sqrt(variance / len(amounts)) * float(stats.t.ppf((1 + _LEVEL) / 2, len(amounts) - 1))
    return mean - error, mean + error
