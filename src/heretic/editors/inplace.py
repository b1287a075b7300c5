"""Edits in the weights themselves: for the final pick, chat, saving, and as the reference for every other engine."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heretic.common.errors import ModelError
from heretic.editors.cache import PristineSource, WeightCache, editable_tensors
from heretic.edits.algebra import Edit, edited_weight
from heretic.edits.writer import ModelLayout, ResidualWriter
from heretic.models.access import oriented, writer_bias, writer_values, writer_weight


class InplaceEditor:
    """Writes W' into the model; original weights come back from a PristineSource."""

    def __init__(self, model: PreTrainedModel, layout: ModelLayout, source: PristineSource) -> None:
        self._model = model
        self._source = source
        self._edited: dict[str, ResidualWriter] = {}
        if isinstance(source, WeightCache):
            source.check(model, layout)

    def pristine_weight(self, writer: ResidualWriter) -> Tensor:
        """See Editor."""
        if writer.tensor_name not in self._edited:
            return oriented(writer, writer_values(self._model, writer))
        edited = writer_weight(self._model, writer)
        return oriented(writer, self._source.tensors(self._model, [writer])[writer.tensor_name].to(edited.device))

    @torch.no_grad()
    def apply(self, edits: Sequence[Edit]) -> None:
        """See Editor.

        Raises:
            ModelError: An edit has an offset and the writer holds no bias.
        """
        self.restore()
        for edit in edits:
            self._apply_one(edit)

    def apply_candidates(self, candidates: Sequence[Sequence[Edit]]) -> None:
        """See Editor.

        Raises:
            ValueError: There is more than one candidate: all rows see the same weights.
        """
        (edits,) = candidates
        self.apply(edits)

    def assign_rows(self, candidates: Sequence[int]) -> None:
        """See Editor: every row carries the one candidate."""

    def _apply_one(self, edit: Edit) -> None:
        writer = edit.writer
        parameter = writer_weight(self._model, writer)
        bias = writer_bias(self._model, writer)
        if edit.offset is not None and bias is None:
            raise ModelError(
                f"{writer.path} holds no bias, so an edit with an offset cannot be written into this model; "
                "choose an edit without an offset."
            )
        self._edited[writer.tensor_name] = writer
        weight = oriented(writer, parameter.data)
        weight.copy_(edited_weight(weight, edit))
        if edit.offset is not None and bias is not None:
            bias.data += edit.offset.to(bias)

    @torch.no_grad()
    def restore(self) -> None:
        """See Editor."""
        if not self._edited:
            return
        writers = tuple(self._edited.values())
        pristine = self._source.tensors(self._model, writers)
        for writer in writers:
            for name, tensor in editable_tensors(self._model, writer).items():
                tensor.copy_(pristine[name])
        self._edited.clear()
