"""Which layers are edited, and how strongly against each other: pure functions that give one factor a layer."""

from collections.abc import Sequence

from torch import Tensor

LayerRange = tuple[float, float, float]
"""Relative depth from, relative depth to, and the factor in between."""


def range_factors(ranges: Sequence[LayerRange], layer_count: int) -> tuple[float, ...]:
    """The factor of each layer by its relative depth; 1 outside all ranges.

    A border belongs to the deeper range, the end of the depth to the last one.

    Args:
        ranges: Ascending, not overlapping.
        layer_count: L.
    """

    def factor(depth: float) -> float:
        for start, end, value in reversed(ranges):
            if start <= depth < end or depth == end == 1.0:
                return value
        return 1.0

    return tuple(factor(layer / max(layer_count - 1, 1)) for layer in range(layer_count))


def lowest_similarity_positions(target: Tensor, baseline: Tensor, share: float) -> list[int]:
    """Residual positions where both classes' means differ most in direction.

    Args:
        target: Mean residuals [L+1, D].
        baseline: Mean residuals [L+1, D].
        share: Of the L layers, at least one is returned. Position 0, the embeddings, is left out: the last prompt
            token is mostly the same in both classes.

    Returns:
        Positions, ascending.
    """
    similarity = _cosine(target, baseline)[1:]
    count = max(1, round(share * len(similarity)))
    return sorted((similarity.argsort()[:count] + 1).tolist())


def cosmic_score(ablated: Tensor, steered: Tensor, target: Tensor, baseline: Tensor, positions: Sequence[int]) -> float:
    """How well a direction turns each class into the other, judged by residuals alone (COSMIC, arXiv 2506.00085).

    Args:
        ablated: Mean residuals [L+1, D] of the target prompts without the direction.
        steered: Mean residuals [L+1, D] of the baseline prompts with the direction added.
        target: Mean residuals [L+1, D] of the target prompts in the original model.
        baseline: The same of the baseline prompts.
        positions: Residual positions that are compared.

    Returns:
        The mean cosine of (ablated target, baseline) plus that of (steered baseline, target), -2 to 2.
    """
    chosen = list(positions)
    towards_baseline = _cosine(ablated[chosen], baseline[chosen])
    towards_target = _cosine(steered[chosen], target[chosen])
    return float((towards_baseline + towards_target).mean())


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    first, second = first.float(), second.to(first.device).float()
    norms = first.norm(dim=-1) * second.norm(dim=-1)
    cosine: Tensor = (first * second).sum(-1) / norms.clamp_min(1e-12)
    return cosine
