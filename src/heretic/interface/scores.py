"""Scores in fixed columns; pure, so that all lines agree."""

from collections.abc import Sequence

from heretic.interface.formatting import ratio
from heretic.results.score import Score, behaviors_of, divergence_of

_WIDTH = 6


def amount_text(score: Score, value: float | None = None) -> str:
    """A score's value, or another value of its kind, as wide as others of its kind."""
    value = score.value if value is None else value
    return ratio(value, score.n) if score.counts_answers else f"{score.amount(value):>{_WIDTH}}"


def scores_text(scores: Sequence[Score]) -> str:
    """All numbers of one trial in fixed columns: ``refusals   3/100   KL  0.0123``."""
    behaviors = "   ".join(f"{score.label} {amount_text(score)}" for score in behaviors_of(scores))
    return f"{behaviors}   KL {divergence_of(scores).amount():>7}"
