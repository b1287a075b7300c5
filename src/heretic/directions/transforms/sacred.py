"""Directions without what the model uses to answer questions of knowledge and reasoning."""

import torch
from torch import Tensor

from heretic.directions.orthogonal import on_both_sides, ridge_outside
from heretic.directions.samples import rows_by_position, span, top_contrast
from heretic.directions.transform import TransformContext, TransformOptions, transform
from heretic.directions.types import DirectionSet
from heretic.observability.events import Warned, emit

QUESTIONS, TEXT = "sacred_prompts", "sacred_baseline_prompts"


@transform("sacred")
def sacred(directions: DirectionSet, context: TransformContext, options: TransformOptions) -> DirectionSet:
    """Ridge-project capability directions out of both sides: r - C^T (C C^T + a I)^-1 C r.

    The rows of C are the directions in which residuals of questions vary about the mean of plain text and plain text
    itself does not (as `pca` finds them), with lengths so that the strongest has length 1 and weaker ones are spared.
    Plain text stands where a question would stand, in the same template; see `helpfulness` for why. Warned says where
    more than `sacred_overlap_threshold` of a direction lies among them.
    """
    questions, text = context.statistics(QUESTIONS), context.statistics(TEXT)
    positions = [
        capability_directions(question_rows, text_rows, options.n_sacred_directions)
        for question_rows, text_rows in zip(rows_by_position(questions), rows_by_position(text), strict=True)
    ]
    axes = torch.stack([vectors for vectors, _lengths in positions])
    lengths = torch.stack([lengths for _vectors, lengths in positions])
    _report(overlap(directions.vectors, axes), options.sacred_overlap_threshold)
    removed = axes * lengths[..., None]
    return on_both_sides(directions, lambda side: ridge_outside(side, removed, options.sacred_regularization), "sacred")


def capability_directions(questions: Tensor, text: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Contrastive principal directions of questions against plain text at one position.

    Args:
        questions: [n, D] fp64.
        text: [m, D] fp64.
        count: How many.

    Returns:
        Orthonormal vectors [count, D] and lengths [count] from 1 down: square roots of the eigenvalues relative to the
        first. Both are zero where questions vary no more than plain text.
    """
    middle = text.mean(0)
    _squared, axes = span(torch.cat([questions, text]) - middle)
    eigenvalues, vectors = top_contrast((questions - middle) @ axes.mT, (text - middle) @ axes.mT, 1.0, count)
    positive = eigenvalues.clamp_min(0)
    lengths = (positive / torch.where(positive[0] > 0, positive[0], 1.0)).sqrt()
    return torch.where(positive > 0, 1.0, 0.0)[:, None] * vectors @ axes, lengths


def overlap(vectors: Tensor, axes: Tensor) -> Tensor:
    """Largest cosine between a position's directions and a subspace.

    Args:
        vectors: Unit or zero, [L+1, k, D].
        axes: Orthonormal or zero, [L+1, r, D].

    Returns:
        [L+1], from 0 to 1.
    """
    cosines: Tensor = (vectors.cpu().double() @ axes.mT).norm(dim=-1)
    return cosines.amax(-1)


def _report(overlaps: Tensor, threshold: float) -> None:
    """Say where an edit and the capabilities can hardly be told apart; position 0 is no layer's output."""
    layers = overlaps[1:]
    above = int((layers > threshold).sum())
    if above:
        worst = int(layers.argmax())
        emit(
            Warned(
                f"In {above} of {len(layers)} layers the direction overlaps with the capability directions by more "
                f"than {threshold:g} (most, {float(layers[worst]):.2f}, after layer {worst + 1}), so taking these out "
                "also weakens the edit; fewer --n-sacred-directions or a higher --sacred-regularization take out less."
            )
        )
