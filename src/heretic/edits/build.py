"""From a plan to edits: which direction each writer loses, how strongly, and with which norms kept. Pure."""

from collections.abc import Callable

import torch
from torch import Tensor

from heretic.directions.types import DirectionSet
from heretic.edits.algebra import Edit, keep_column_norms, keep_row_norms, projection
from heretic.edits.plan import EditPlan, Normalization, Scope
from heretic.edits.writer import ModelLayout, ResidualWriter

WeightOf = Callable[[ResidualWriter], Tensor]
"""The unedited weight of a writer as [D, m] or [E, D, m]."""
GainOf = Callable[[ResidualWriter], Tensor | None]
"""The gain [D] of the norm between a writer and the residual stream, or None where there is none."""


def interpolated_vectors(directions: DirectionSet, position: float) -> tuple[Tensor, Tensor]:
    """Directions at a relative depth between two residual positions.

    Args:
        directions: Vectors [L+1, k, D].
        position: 0 is the output of the first layer, 1 that of the last.

    Returns:
        Orthonormal vectors [k, D] and their weights [k].
    """
    layer_count = directions.vectors.shape[0] - 1
    index = 1 + position * (layer_count - 1)
    lower = min(int(index), layer_count)
    upper = min(lower + 1, layer_count)
    fraction = index - lower
    weights = torch.lerp(directions.weights[lower], directions.weights[upper], fraction)
    mixed = torch.lerp(directions.vectors[lower], directions.vectors[upper], fraction)
    basis, triangle = torch.linalg.qr(mixed.T)
    # QR leaves the signs open; keep each vector on the side that it had.
    return (basis * triangle.diagonal().sign()).T, weights


def build_edits(
    plan: EditPlan, directions: DirectionSet, layout: ModelLayout, weight_of: WeightOf, gain_of: GainOf
) -> tuple[Edit, ...]:
    """The edits that a plan stands for; writers with strength 0 get none."""
    shared = (
        interpolated_vectors(directions, plan.direction_position)
        if plan.scope is Scope.GLOBAL and plan.direction_position is not None
        else None
    )
    edits = []
    for writer in layout.writers:
        strength = plan.strength(writer.component, writer.layer, layout.layer_count)
        if strength == 0.0:
            continue
        vectors, weights = shared or (directions.vectors[writer.layer + 1], directions.weights[writer.layer + 1])
        edits.append(_build_edit(writer, vectors, strength * weights, plan.normalization, weight_of, gain_of))
    return tuple(edits)


def _build_edit(
    writer: ResidualWriter,
    vectors: Tensor,
    strengths: Tensor,
    normalization: Normalization,
    weight_of: WeightOf,
    gain_of: GainOf,
) -> Edit:
    gain = gain_of(writer)
    if normalization is Normalization.NONE:
        return Edit(writer, *projection(vectors, strengths, None if gain is None else gain.to(vectors.device)))
    weight = weight_of(writer)
    vectors, strengths = vectors.to(weight.device), strengths.to(weight.device)
    write, read = projection(vectors, strengths, None if gain is None else gain.to(weight.device))
    if normalization is Normalization.ROW:
        write, read, output_scale = keep_row_norms(weight, write, read)
        return Edit(writer, write, read, output_scale=output_scale)
    return Edit(writer, write, read, input_scale=keep_column_norms(weight, write, read))
