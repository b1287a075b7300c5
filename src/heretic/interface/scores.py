"""Scores in fixed columns; pure, so that all lines agree."""

from heretic.interface.formatting import ratio
from heretic.results.score import Score, Scores

_WIDTH = 6


def amount_text(score: Score, value: float | None = None) -> str:
    """A score's value, or another value of its kind, as wide as others of its kind."""
    value = score.value if value is None else value
    return ratio(value, score.n) if score.counts_answers else f"{score.amount(value):>{_WIDTH}}"


def scores_text(scores: Scores) -> str:
    """All numbers of one trial in fixed columns: ``refusals   3/100   KL  0.0123``."""
    behaviors = "   ".join(f"{score.label} {amount_text(score)}" for score in scores.behaviors)
    return f"{behaviors}   KL {scores.kl.amount():>7}"
