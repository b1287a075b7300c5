"""From a plan to edits: which direction each writer loses, how strongly, and with which norms kept. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from heretic.directions.orthogonal import scaled_reads
from heretic.directions.types import DirectionSet
from heretic.edits.algebra import Edit, keep_column_norms, keep_row_norms, projection
from heretic.edits.plan import EditPlan, Normalization, Scope
from heretic.edits.writer import ModelLayout, ResidualWriter

WeightOf = Callable[[ResidualWriter], Tensor]
"""The unedited weight of a writer as [D, m] or [E, D, m]."""
GainOf = Callable[[ResidualWriter], Tensor | None]
"""The gain [D] of the norm between a writer and the residual stream, or None where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Adjustments:
    """What every plan of a run is changed by before it becomes edits.

    Attributes:
        layer_factors: By layer, what its strength is multiplied by; 0 leaves the layer alone. None changes nothing.
    """

    layer_factors: tuple[float, ...] | None = None

    def factor(self, layer: int) -> float:
        """What the strengths of one layer are multiplied by."""
        return 1.0 if self.layer_factors is None else self.layer_factors[layer]


UNADJUSTED = Adjustments()


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Directions for one writer: vectors [k, D] orthonormal, their weights [k], and reads [k, D] or None."""

    vectors: Tensor
    weights: Tensor
    reads: Tensor | None


def interpolated_vectors(directions: DirectionSet, position: float) -> tuple[Tensor, Tensor]:
    """Directions at a relative depth between two residual positions.

    Args:
        directions: Vectors [L+1, k, D].
        position: 0 is the output of the first layer, 1 that of the last.

    Returns:
        Orthonormal vectors [k, D] and their weights [k].
    """
    sides = _interpolated(directions, position)
    return sides.vectors, sides.weights


def _interpolated(directions: DirectionSet, position: float) -> _Sides:
    layer_count = directions.vectors.shape[0] - 1
    index = 1 + position * (layer_count - 1)
    lower = min(int(index), layer_count)
    upper = min(lower + 1, layer_count)
    fraction = index - lower
    weights = torch.lerp(directions.weights[lower], directions.weights[upper], fraction)
    mixed = torch.lerp(directions.vectors[lower], directions.vectors[upper], fraction)
    basis, triangle = torch.linalg.qr(mixed.T)
    # QR leaves the signs open; keep each vector on the side that it had.
    vectors = (basis * triangle.diagonal().sign()).T
    reads = directions.reads
    if reads is not None:
        reads = scaled_reads(torch.lerp(reads[lower], reads[upper], fraction), vectors)
    return _Sides(vectors, weights, reads)


def build_edits(
    plan: EditPlan,
    directions: DirectionSet,
    layout: ModelLayout,
    weight_of: WeightOf,
    gain_of: GainOf,
    adjustments: Adjustments = UNADJUSTED,
) -> tuple[Edit, ...]:
    """The edits that a plan stands for; writers with strength 0 get none."""
    shared = (
        _interpolated(directions, plan.direction_position)
        if plan.scope is Scope.GLOBAL and plan.direction_position is not None
        else None
    )
    edits = []
    for writer in layout.writers:
        strength = plan.strength(writer.component, writer.layer, layout.layer_count) * adjustments.factor(writer.layer)
        if strength == 0.0:
            continue
        sides = shared or _at_position(directions, writer.layer + 1)
        edits.append(_build_edit(writer, sides, strength, plan.normalization, weight_of, gain_of))
    return tuple(edits)


def _at_position(directions: DirectionSet, position: int) -> _Sides:
    reads = directions.reads
    return _Sides(
        directions.vectors[position], directions.weights[position], None if reads is None else reads[position]
    )


def _build_edit(
    writer: ResidualWriter,
    sides: _Sides,
    strength: float,
    normalization: Normalization,
    weight_of: WeightOf,
    gain_of: GainOf,
) -> Edit:
    gain = gain_of(writer)
    weight = None if normalization is Normalization.NONE else weight_of(writer)
    device = sides.vectors.device if weight is None else weight.device
    write, read = projection(
        sides.vectors.to(device),
        (strength * sides.weights).to(device),
        None if gain is None else gain.to(device),
        None if sides.reads is None else sides.reads.to(device),
    )
    if weight is None:
        return Edit(writer, write, read)
    if normalization is Normalization.ROW:
        write, read, output_scale = keep_row_norms(weight, write, read)
        return Edit(writer, write, read, output_scale=output_scale)
    return Edit(writer, write, read, input_scale=keep_column_norms(weight, write, read))
