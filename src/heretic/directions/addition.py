"""The sum of direction sets: at every layer the space that the directions of all of them span.

Removing the sum of two sets removes what either of them finds. The vectors are stacked, not added up: removing one
vector in between would leave most of both behaviours in place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from heretic.common.errors import UserError
from heretic.directions.types import DirectionSet

_WITHIN_THE_SPAN = 1e-3
"""A unit vector whose part outside of the others' span is shorter than this adds only noise to it."""
_DUAL_CONDITION = 1e-4
"""Smallest singular value, relative to the largest, up to which read vectors are told apart."""


def added(sets: Sequence[DirectionSet], weights: Sequence[float] = ()) -> DirectionSet:
    """Stack direction sets, in this order, and make the directions of each position orthonormal again.

    A later set's directions lose what already lies in the span of earlier ones; what is nothing but that becomes a zero
    vector with weight 0. The result keeps the senses of the vectors. Its weights are the sets' own, times the given
    ones, relative to the largest, so that no direction is edited more strongly than the plan says.

    Read vectors, where a set has any, are made dual to the stacked vectors (read_i^T vector_j is 1 for i = j, else 0);
    a direction without any reads itself.

    Args:
        sets: At least one, all for the same layers and width.
        weights: One for each set, or none where all count alike; a negative one has the behaviour strengthened.

    Returns:
        The sum [L+1, sum of k, D], without directions that are zero everywhere. The quality is the weighted mean;
        provenance is left to whoever knows the files.

    Raises:
        UserError: A weight is 0 or not finite, or read vectors of a layer cannot be told apart.
    """
    factors = torch.tensor(list(weights) or [1.0] * len(sets), dtype=torch.float64)
    if not bool(factors.isfinite().all()) or bool((factors == 0).any()):
        raise UserError("The weights of directions must be numbers other than 0.")
    raw = torch.cat([directions.vectors.cpu().double() for directions in sets], dim=1)
    vectors = orthonormalized(raw)
    relative = factors / factors.abs().max()
    strengths = torch.cat(
        [directions.weights.cpu() * float(factor) for directions, factor in zip(sets, relative, strict=True)], dim=1
    )
    present = vectors.norm(dim=-1) > 0
    shares = factors.abs() / factors.abs().sum()
    # Directions that are absent at every position would only cost time.
    used_columns = present.any(0)
    reads = None
    if any(directions.reads is not None for directions in sets):
        sides = [directions.vectors if directions.reads is None else directions.reads for directions in sets]
        reads = dual(torch.cat([side.cpu().double() for side in sides], dim=1), vectors).float()
    return DirectionSet(
        vectors=vectors[:, used_columns].float(),
        weights=torch.where(present, strengths, 0.0)[:, used_columns].float(),
        quality=sum((d.quality.cpu() * float(s) for d, s in zip(sets, shares, strict=True)), torch.zeros(())),
        method=" + ".join(f"({directions.method})" for directions in sets),
        reads=None if reads is None else reads[:, used_columns],
    )


def orthonormalized(vectors: Tensor) -> Tensor:
    """Gram-Schmidt in the given order, twice over, with the senses kept.

    Args:
        vectors: [L+1, k, D] fp64, unit or zero.

    Returns:
        [L+1, k, D], orthonormal over k; zero where a vector lies in the span of those before it.
    """
    result = torch.zeros_like(vectors)
    for index in range(vectors.shape[1]):
        remainder = vectors[:, index]
        for _ in range(2):
            # Once leaves rounding behind where little remains.
            within = (result @ remainder[..., None]).mT @ result
            remainder = remainder - within.squeeze(-2)
        length = remainder.norm(dim=-1, keepdim=True)
        outside = length > _WITHIN_THE_SPAN
        result[:, index] = torch.where(outside, remainder / torch.where(outside, length, 1.0), 0.0)
    return result


def dual(reads: Tensor, vectors: Tensor) -> Tensor:
    """Combinations of read vectors that each read one of the written vectors and none of the others.

    Args:
        reads: [L+1, k, D] fp64.
        vectors: [L+1, k, D] fp64, orthonormal or zero.

    Returns:
        [L+1, k, D] with reads_i^T vectors_j = 1 for i = j, else 0; zero for zero vectors.

    Raises:
        UserError: The read vectors of a layer cannot tell the written ones apart.
    """
    present = vectors.norm(dim=-1) > 0
    mixed = torch.where(present[..., None] & present[:, None, :], reads @ vectors.mT, 0.0)
    # Absent directions get a 1 of their own, so that the others can be solved for.
    mixed = mixed + torch.diag_embed((~present).double())
    values = torch.linalg.svdvals(mixed)
    unsolvable = values[:, -1] <= _DUAL_CONDITION * values[:, 0]
    if bool(unsolvable.any()):
        layer = int(unsolvable.nonzero()[0])
        raise UserError(
            f"The directions cannot be added: at position {layer} their read vectors do not tell them apart; load one "
            "of the files alone."
        )
    solved: Tensor = torch.linalg.solve(mixed, torch.where(present[..., None], reads, 0.0))
    return solved
