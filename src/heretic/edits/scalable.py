"""Edits as functions of their strength, differentiable in it: what each needs to know of a weight is computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from heretic.directions.types import DirectionSet
from heretic.edits.algebra import ColumnTerms, Edit, RowTerms, column_terms, computation_dtype, projection, row_terms
from heretic.edits.build import UNADJUSTED, Adjustments, GainOf, WeightOf
from heretic.edits.writer import ModelLayout, ResidualWriter
from heretic.results.plan import Normalization


@dataclass(frozen=True, slots=True, eq=False)
class ScalableEdit:
    """All edits of one writer that differ in strength only, each layer losing its own direction (Scope.LAYER).

    Attributes:
        writer: Which weight.
        write: [..., D, k] at strength 1.
        read: [..., D, k].
        rows: What keeping row norms needs, or None where they are not kept.
        columns: What keeping column norms needs, or None where they are not kept.
    """

    writer: ResidualWriter
    write: Tensor
    read: Tensor
    rows: RowTerms | None = None
    columns: ColumnTerms | None = None

    def at(self, strength: Tensor) -> Edit:
        """The edit of a strength (a number, []); its tensors carry the strength's gradient."""
        strength = strength.to(self.write)
        return Edit(
            self.writer,
            self.write * strength,
            self.read,
            input_scale=None if self.columns is None else self.columns.input_scale(strength),
            output_scale=None if self.rows is None else self.rows.output_scale(strength),
        )


def scalable_edits(
    directions: DirectionSet,
    layout: ModelLayout,
    normalization: Normalization,
    weight_of: WeightOf,
    gain_of: GainOf,
    adjustments: Adjustments = UNADJUSTED,
) -> tuple[ScalableEdit, ...]:
    """One for each writer of a model that plans may edit, in the order of the layout.

    Of the adjustments the layer factors count; masks and shifts have no gradient form.
    """
    return tuple(
        _scalable_edit(directions, writer, factor, normalization, weight_of, gain_of(writer))
        for writer in layout.writers
        if (factor := adjustments.factor(writer.layer)) != 0
    )


def _scalable_edit(
    directions: DirectionSet,
    writer: ResidualWriter,
    factor: float,
    normalization: Normalization,
    weight_of: WeightOf,
    gain: Tensor | None,
) -> ScalableEdit:
    position = writer.layer + 1
    weight = None if normalization is Normalization.NONE else weight_of(writer)
    device = directions.vectors.device if weight is None else weight.device
    write, read = projection(
        directions.vectors[position].to(device),
        factor * directions.weights[position].to(device),
        None if gain is None else gain.to(device),
        None if directions.reads is None else directions.reads[position].to(device),
    )
    if weight is None:
        return ScalableEdit(writer, write, read)
    if normalization is Normalization.ROW:
        rows = row_terms(weight, write, read)
        return ScalableEdit(writer, rows.write, rows.read, rows=rows)
    dtype = computation_dtype(weight)
    return ScalableEdit(writer, write.to(dtype), read.to(dtype), columns=column_terms(weight, write, read))


def edits_of_strengths(
    edits: Sequence[ScalableEdit], components: Sequence[str]
) -> Callable[[Tensor], tuple[Edit, ...]]:
    """From strengths [C, L] of so many components and layers to the edits; further scaling is the plan's business."""
    places = {component: index for index, component in enumerate(components)}

    def at(strengths: Tensor) -> tuple[Edit, ...]:
        return tuple(edit.at(strengths[places[edit.writer.component], edit.writer.layer]) for edit in edits)

    return at
