"""Taking other directions out of directions: pure functions of tensors and of DirectionSets."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from heretic.directions.types import DirectionSet

_ROUNDING = 1e-6
"""A shorter remainder of a unit vector in fp32 is noise: normalising it would make a direction up."""
SMALLEST_READING = 1e-2
"""A read side that sees less than this share (cosine) of what its write side writes is replaced by the write side:
scaled to read it wholly, it would mostly read everything else."""


def orthonormal_rows(vectors: Tensor) -> Tensor:
    """Orthonormal rows with the same span, each on the side that it had; zero where nothing independent is left.

    In host memory, because some devices (MPS) have neither fp64 nor a QR decomposition, and there is little to compute.

    Args:
        vectors: [..., k, D] with rows of about unit length.

    Returns:
        [..., k, D] fp64 on the CPU.
    """
    basis, triangle = torch.linalg.qr(vectors.cpu().double().mT)
    lengths = triangle.diagonal(dim1=-2, dim2=-1)
    signs = torch.where(lengths.abs() < _ROUNDING, 0.0, lengths.sign())
    rows: Tensor = (basis * signs[..., None, :]).mT
    return rows


def outside_span(vectors: Tensor, removed: Tensor) -> Tensor:
    """Vectors without their component in the span of others.

    Two passes in fp64: after one pass in fp32 a large removed component leaves a visible remainder.

    Args:
        vectors: [..., k, D].
        removed: [..., r, D], rows of any length; zero rows remove nothing.

    Returns:
        [..., k, D] fp64 on the CPU.
    """
    # Moved before they are widened: the device could not hold them.
    result = vectors.cpu().double()
    axes = removed.cpu().double()
    norm = axes.norm(dim=-1, keepdim=True)
    unit = torch.where(norm > 0, axes / norm.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    basis = orthonormal_rows(unit)
    for _ in range(2):
        result = result - (result @ basis.mT) @ basis
    return result


def scaled_reads(reads: Tensor, vectors: Tensor) -> Tensor:
    """Read sides scaled so that each reads its own direction with 1.

    Args:
        reads: [..., k, D], any length.
        vectors: [..., k, D], unit rows or zero.

    Returns:
        [..., k, D] in the dtype of `vectors`; the vector itself where its read side hardly sees it.
    """
    reads = reads.to(vectors)
    seen = (reads * vectors).sum(-1, keepdim=True)
    usable = seen.abs() > SMALLEST_READING * reads.norm(dim=-1, keepdim=True)
    return torch.where(usable, reads / torch.where(usable, seen, 1.0), vectors)


def without_components(directions: DirectionSet, removed: Tensor, name: str) -> DirectionSet:
    """Both sides of directions without their component in the span of others.

    Args:
        directions: Vectors [L+1, k, D].
        removed: [L+1, r, D], rows of any length.
        name: Of the transform, for the method.

    Returns:
        Orthonormal vectors, and reads scaled to match where there are any.
    """
    return on_both_sides(directions, lambda side: outside_span(side, removed), name)


def on_both_sides(directions: DirectionSet, change: Callable[[Tensor], Tensor], name: str) -> DirectionSet:
    """The same change of what directions write and of what they read.

    Args:
        directions: Vectors [L+1, k, D].
        change: From rows [L+1, k, D] of about unit length to rows of that shape.
        name: Of the transform, for the method.

    Returns:
        Orthonormal vectors, and reads scaled to match where there are any.
    """
    vectors = orthonormal_rows(change(directions.vectors))
    reads = directions.reads
    if reads is not None:
        lengths = reads.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(reads.dtype).tiny)
        reads = scaled_reads(change(reads / lengths), vectors).float().to(directions.vectors.device)
    return replace(
        directions,
        vectors=vectors.float().to(directions.vectors.device),
        reads=reads,
        method=f"{directions.method}, {name}",
    )


def ridge_outside(vectors: Tensor, removed: Tensor, regularization: float) -> Tensor:
    """Vectors less their ridge regression on others: r - C^T (C C^T + a I)^-1 C r.

    A row of C of length s that is orthogonal to the others loses s^2 / (s^2 + a) of its component, so short rows are
    spared.

    Args:
        vectors: [..., k, D].
        removed: C, [..., r, D], rows of any length; zero rows remove nothing.
        regularization: a, at least 0; with 0 this is `outside_span`.

    Returns:
        [..., k, D] fp64 on the CPU.
    """
    rows = vectors.cpu().double()
    axes = removed.cpu().double()
    gram = axes @ axes.mT + regularization * torch.eye(axes.shape[-2], dtype=torch.float64)
    # The pseudo-inverse, because without regularisation a zero row makes the matrix singular.
    coefficients = rows @ axes.mT @ torch.linalg.pinv(gram, hermitian=True)
    result: Tensor = rows - coefficients @ axes
    return result
