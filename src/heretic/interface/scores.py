"""Scores in fixed columns; pure, so that all lines agree."""

from heretic.interface.formatting import ratio
from heretic.results.score import Score, Scores

_WIDTH = 6


def amount_text(score: Score) -> str:
    """A score's value, as wide as others of its kind."""
    return ratio(score.value, score.n) if score.counts_answers else f"{score.amount():>{_WIDTH}}"


def scores_text(scores: Scores) -> str:
    """All numbers of one trial in fixed columns: ``refusals   3/100   KL  0.0123``."""
    behaviors = "   ".join(f"{score.label} {amount_text(score)}" for score in scores.behaviors)
    return f"{behaviors}   KL {scores.kl.amount():>7}"
