"""What is taken out of directions after they were extracted: pure functions from DirectionSet to DirectionSet."""

from dataclasses import replace

import torch
from torch import Tensor

from heretic.directions.types import DirectionSet

_ROUNDING = 1e-6
"""A shorter remainder of a unit vector in fp32 is noise: normalising it would make a direction up."""


def without_component(vectors: Tensor, removed: Tensor) -> Tensor:
    """Orthonormal vectors without their component along another direction.

    Two passes in fp64: after one pass in fp32 a large removed component leaves a visible remainder. In host memory,
    because some devices (MPS) have neither fp64 nor a QR decomposition, and there is little to compute.

    Args:
        vectors: [..., k, D].
        removed: [..., D], any length; zero removes nothing.

    Returns:
        [..., k, D] fp32 on the device of `vectors`, orthonormal over k and orthogonal to `removed`; zero where nothing
        was left.
    """
    # Moved before they are widened: the device could not hold them.
    result = vectors.cpu().double()
    axis = removed.cpu().double()
    norm = axis.norm(dim=-1, keepdim=True)
    unit = torch.where(norm > 0, axis / norm.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    for _ in range(2):
        result = result - (result @ unit[..., None]) * unit[..., None, :]
    basis, triangle = torch.linalg.qr(result.mT)
    lengths = triangle.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(lengths.abs() < _ROUNDING, 0.0, lengths.sign())
    orthonormal: Tensor = (basis * signs[..., None, :]).mT.float()
    return orthonormal.to(vectors.device)


def projected(directions: DirectionSet, baseline_mean: Tensor) -> DirectionSet:
    """Directions without their component along the baseline's mean residual (projected abliteration, DESIGN section 4).

    Args:
        directions: Vectors [L+1, k, D].
        baseline_mean: [L+1, D].

    Returns:
        A set whose vectors leave the baseline's mean where it is.
    """
    vectors = without_component(directions.vectors, baseline_mean)
    return replace(directions, vectors=vectors, method=f"{directions.method}, projected")
