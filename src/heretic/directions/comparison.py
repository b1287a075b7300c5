"""How alike directions are, between two sets and between neighbouring layers; pure."""

import torch
from torch import Tensor

from heretic.common.errors import UserError
from heretic.directions.types import DirectionSet


def shape_text(directions: DirectionSet) -> str:
    """Layers and width of the model that a set is for, in words."""
    positions, _k, width = directions.vectors.shape
    return f"{positions - 1} layers of width {width}"


def require_same_shape(first: DirectionSet, second: DirectionSet, names: tuple[str, str]) -> None:
    """Refuse sets of models that differ in layers or width.

    Raises:
        UserError: They do; the message has both shapes.
    """
    if first.vectors.shape[::2] != second.vectors.shape[::2]:
        raise UserError(
            f"{names[0]} is for a model of {shape_text(first)} and {names[1]} for one of {shape_text(second)}; only "
            "directions of models of the same shape go together."
        )


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Signed cosines of vectors [..., D], as [...] fp64; NaN where one of them is zero."""
    products = (first.double() * second.double()).sum(-1)
    lengths = first.double().norm(dim=-1) * second.double().norm(dim=-1)
    ratios: Tensor = products / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
    return torch.where(lengths > 0, ratios, torch.nan)


def cosines_between(first: DirectionSet, second: DirectionSet) -> Tensor:
    """Signed cosine of both sets' first directions at every position, [L+1] fp64; NaN where one has none."""
    return cosines(first.vectors[:, 0], second.vectors[:, 0])


def cosines_to_layer_below(directions: DirectionSet) -> Tensor:
    """Signed cosine of each position's first direction with that of the layer below, [L+1] fp64; the first is NaN."""
    neighbours = cosines(directions.vectors[1:, 0], directions.vectors[:-1, 0])
    return torch.cat([torch.full((1,), torch.nan, dtype=neighbours.dtype, device=neighbours.device), neighbours])


def principal_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosines of the principal angles between two spaces (Bjorck and Golub, 1973), in host memory.

    Args:
        first: [..., k, D], orthonormal over k; zero vectors count as absent.
        second: [..., j, D], likewise.

    Returns:
        [..., min(k, j)] fp64 in [0, 1], descending; 0 for a pair that is absent.
    """
    values: Tensor = torch.linalg.svdvals(first.cpu().double() @ second.cpu().double().mT)
    return values.clamp(0, 1)


def overlap(first: DirectionSet, second: DirectionSet) -> Tensor:
    """Share of the smaller space of directions that lies in the larger one, at every position.

    The mean squared cosine of the principal angles: 1 where one space holds the other, 0 where they are orthogonal; the
    squared cosine where both sets have one direction.

    Returns:
        [L+1] fp64 in [0, 1]; NaN where a set has no direction.
    """
    squared = principal_cosines(first.vectors, second.vectors).square().sum(-1)
    smaller = torch.minimum(_dimension(first), _dimension(second))
    return torch.where(smaller > 0, squared / smaller.clamp_min(1), torch.nan)


def _dimension(directions: DirectionSet) -> Tensor:
    """[L+1] fp64, number of directions that are not zero."""
    lengths: Tensor = directions.vectors.cpu().norm(dim=-1)
    return (lengths > 0).sum(-1).double()
