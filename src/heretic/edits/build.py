"""From a plan to edits: which direction each writer loses, how strongly, and with which norms kept. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from heretic.directions.orthogonal import scaled_reads
from heretic.directions.types import DirectionSet
from heretic.edits.algebra import Edit, keep_column_norms, keep_row_norms, projection
from heretic.edits.writer import ModelLayout, ResidualWriter
from heretic.results.plan import EditPlan, Normalization, Scope

WeightOf = Callable[[ResidualWriter], Tensor]
"""The original weight of a writer as [D, m] or [E, D, m]."""
GainOf = Callable[[ResidualWriter], Tensor | None]
"""The gain [D] of the norm between a writer and the residual stream, or None where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """By how much the residual stream behind a layer is moved, and which writer moves it.

    Attributes:
        path: Of the writer, whose bias takes the offset up.
        vector: [D], the whole move behind this layer, what earlier layers moved it by included.
        share: What is left of a constant that the writer puts out when it arrives in the residual stream (the residual
            multiplier of Granite, else 1).
    """

    path: str
    vector: Tensor
    share: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Adjustments:
    """What every plan of a run is changed by before it becomes edits.

    Attributes:
        layer_factors: By layer, what its strength is multiplied by; 0 leaves the layer alone. None changes nothing.
        input_masks: [m] bool by path of a writer: only these columns of it are edited, and writers that are not named
            are left alone. None edits all writers whole.
        shifts: By layer, for the layers that a plan edits.
        notes: The same in sentences, for people.
    """

    layer_factors: tuple[float, ...] | None = None
    input_masks: Mapping[str, Tensor] | None = None
    shifts: Mapping[int, Shift] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to(self, device: torch.device) -> "Adjustments":
        """The same on another device."""
        masks = self.input_masks
        return replace(
            self,
            input_masks=None if masks is None else {path: mask.to(device) for path, mask in masks.items()},
            shifts={layer: replace(shift, vector=shift.vector.to(device)) for layer, shift in self.shifts.items()},
        )

    def factor(self, layer: int) -> float:
        """What the strengths of one layer are multiplied by."""
        return 1.0 if self.layer_factors is None else self.layer_factors[layer]


UNADJUSTED = Adjustments()


def combined_factors(*sources: Sequence[float] | None) -> tuple[float, ...] | None:
    """The product, layer by layer, of the factors of several sources; None where no source gives any."""
    given = [source for source in sources if source is not None]
    return tuple(math.prod(factors) for factors in zip(*given, strict=True)) if given else None


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Directions for one writer: vectors [k, D] orthonormal, their weights [k], and reads [k, D] or None."""

    vectors: Tensor
    weights: Tensor
    reads: Tensor | None


def _interpolated(directions: DirectionSet, position: float) -> _Sides:
    """Directions [L+1, k, D] at a relative depth: 0 is the output of the first layer, 1 that of the last."""
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
    """The edits that a plan stands for; writers with strength 0 get none, unless they shift an edited layer."""
    shared = (
        _interpolated(directions, plan.direction_position)
        if plan.scope is Scope.GLOBAL and plan.direction_position is not None
        else None
    )
    edits = []
    masks = adjustments.input_masks
    for writer in layout.writers:
        if masks is not None and writer.path not in masks:
            continue
        strength = plan.strength(writer.component, writer.layer, layout.layer_count) * adjustments.factor(writer.layer)
        if strength == 0.0:
            continue
        sides = _shared_out(shared or _at_position(directions, writer.layer + 1), plan.shares)
        mask = None if masks is None else masks[writer.path]
        edits.append(_build_edit(writer, sides, strength, plan.normalization, weight_of, gain_of, mask))
    return _with_shifts(edits, layout, adjustments.shifts)


def _with_shifts(edits: Sequence[Edit], layout: ModelLayout, shifts: Mapping[int, Shift]) -> tuple[Edit, ...]:
    """The edits, with an offset in every edited layer that has a shift.

    The residual stream carries on what earlier layers moved it by, so each layer adds the difference only.
    """
    by_writer = {edit.writer: edit for edit in edits}
    writers = {writer.path: writer for writer in layout.writers}
    moved: Tensor | None = None
    for layer in sorted({edit.writer.layer for edit in edits} & shifts.keys()):
        shift = shifts[layer]
        offset = (shift.vector if moved is None else shift.vector - moved) / shift.share
        moved = shift.vector
        writer, nothing = writers[shift.path], offset.new_zeros(len(offset), 1)
        by_writer[writer] = replace(by_writer.get(writer) or Edit(writer, nothing, nothing), offset=offset)
    return tuple(by_writer[writer] for writer in layout.writers if writer in by_writer)


def _at_position(directions: DirectionSet, position: int) -> _Sides:
    reads = directions.reads
    return _Sides(
        directions.vectors[position], directions.weights[position], None if reads is None else reads[position]
    )


def _shared_out(sides: _Sides, shares: Sequence[float]) -> _Sides:
    """The directions with their behaviours' shares; every behaviour has equally many, in the order of the shares."""
    if not shares:
        return sides
    factors = torch.tensor(shares).repeat_interleave(len(sides.weights) // len(shares))
    return replace(sides, weights=sides.weights * factors.to(sides.weights))


def _build_edit(
    writer: ResidualWriter,
    sides: _Sides,
    strength: float,
    normalization: Normalization,
    weight_of: WeightOf,
    gain_of: GainOf,
    mask: Tensor | None,
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
        return Edit(writer, write, read, input_mask=mask)
    if mask is not None:
        # Norms are kept within the columns that are edited, which keeps those of the whole weight, too.
        weight = weight * mask.to(weight)
    if normalization is Normalization.ROW:
        write, read, output_scale = keep_row_norms(weight, write, read)
        return Edit(writer, write, read, output_scale=output_scale, input_mask=mask)
    return Edit(writer, write, read, input_scale=keep_column_norms(weight, write, read), input_mask=mask)
