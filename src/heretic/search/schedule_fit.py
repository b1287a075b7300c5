"""The schedule nearest to free strengths, so that what gradients found can start searches that know schedules only."""

import math
from collections.abc import Sequence
from itertools import product

from heretic.results.plan import Schedule

_POSITIONS = tuple(step / 20 for step in range(6, 21))
_WIDTHS = tuple(step / 20 for step in range(1, 15))
_FLOORS = tuple(step / 4 for step in range(5))


def nearest_schedule(strengths: Sequence[float]) -> tuple[Schedule, float]:
    """The schedule with the least squared distance, and the root of the mean of that.

    Searched on a grid over the range of the search space; for each shape the best peak weight has a closed form.

    Args:
        strengths: By layer.
    """
    count = len(strengths)
    best: tuple[float, Schedule] | None = None
    for position, width, floor in product(_POSITIONS, _WIDTHS, _FLOORS):
        unit = Schedule(1.0, position, floor, width)
        shape = [unit.strength(layer, count) for layer in range(count)]
        square = sum(own * own for own in shape)
        if square == 0:
            continue
        peak = sum(own * other for own, other in zip(shape, strengths, strict=True)) / square
        error = sum((peak * own - other) ** 2 for own, other in zip(shape, strengths, strict=True))
        if best is None or error < best[0]:
            best = error, Schedule(peak, position, floor, width)
    if best is None:
        raise ValueError("no layer lies within the range of the search space")
    return best[1], math.sqrt(best[0] / count)
