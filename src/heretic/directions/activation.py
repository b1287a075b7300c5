"""How strongly each layer speaks along its direction: factors for strengths, as pure functions of residuals."""

import torch
from torch import Tensor


def projection_lengths(residuals: Tensor, vectors: Tensor) -> Tensor:
    """How long the part of each residual is that lies in the span of its layer's directions.

    Args:
        residuals: [B, L+1, D].
        vectors: [L+1, k, D], orthonormal over k.

    Returns:
        [B, L], one value a layer's output (position 0, the embeddings, is left out); |v^T h| for one direction.
    """
    parts = torch.einsum("bld,lkd->blk", residuals[:, 1:].to(vectors), vectors[1:])
    lengths: Tensor = torch.linalg.vector_norm(parts, dim=-1)
    return lengths


def activation_factors(lengths: Tensor, percentile: float, minimum: float, maximum: float) -> tuple[float, ...]:
    """The percentile of each layer's activation relative to the mean of these over all layers, clamped.

    factor_l = clamp(q_l / mean of q over layers, minimum, maximum), q_l the percentile over prompts of |v_l^T h_l|.

    Args:
        lengths: [N, L], see `projection_lengths`.
        percentile: 0 to 1.
        minimum: Of a factor.
        maximum: Of a factor.

    Returns:
        [L] factors; all 1 (clamped) where no layer has any activation.
    """
    quantiles = torch.quantile(lengths.double(), percentile, dim=0)
    mean = quantiles.mean()
    relative = quantiles / mean if mean > 0 else torch.ones_like(quantiles)
    factors: list[float] = relative.clamp(minimum, maximum).tolist()
    return tuple(factors)
