"""Scores as people read them; pure, so that all lines agree."""

from collections.abc import Sequence

from heretic.interface.formatting import kl_text, ratio
from heretic.score import Score, behaviors_of, divergence_of


def amount_text(score: Score, value: float | None = None) -> str:
    """A score's value, or another value of its kind: ``3/100`` answers, ``32.1`` words, ``0.0123`` nats."""
    value = score.value if value is None else value
    if score.is_divergence:
        return kl_text(value)
    return ratio(value, score.n) if score.counts_answers else f"{value:6.1f}" if value >= 10 else f"{value:6.2f}"


def behaviors_text(scores: Sequence[Score]) -> str:
    """The behaviours of one trial in fixed columns: ``refusals   3/100``."""
    return "   ".join(f"{score.label} {amount_text(score)}" for score in behaviors_of(scores))


def scores_text(scores: Sequence[Score]) -> str:
    """All numbers of one trial in fixed columns: ``refusals   3/100   KL  0.0123``."""
    return f"{behaviors_text(scores)}   KL {kl_text(divergence_of(scores).value):>7}"


def unit_text(score: Score) -> str:
    """What the numbers of a behaviour are, for a heading: ``refusals``, ``words a response``."""
    return f"{score.unit} (mean)" if score.unit else score.label
