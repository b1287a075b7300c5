"""Pico models with what `use_circuit_ablation` and `use_caa` would change on them: some heads, some shifts."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heretic.edits.build import Adjustments, Shift
from heretic.edits.writer import ModelLayout
from heretic.models.biases import bias_holders, hold_biases
from heretic.models.heads import head_columns


def some_heads(model: PreTrainedModel, layout: ModelLayout, turn: int = 0) -> dict[str, Tensor]:
    """Two heads of every output projection, others with every turn."""
    return {
        own.writer.path: own.mask([(own.writer.layer + turn) % own.count, (own.writer.layer + turn + 2) % own.count])
        for own in head_columns(model, layout)
    }


def some_shifts(model: PreTrainedModel, layout: ModelLayout) -> tuple[ModelLayout, dict[int, Shift]]:
    """The layout of the model, which holds biases from then on, and a shift in every layer that can hold one."""
    chosen = {layer: own[0].writer for layer, own in bias_holders(model, layout).items()}
    layout = hold_biases(model, layout, [writer.path for writer in chosen.values()])
    generator = torch.Generator().manual_seed(11)
    vectors = 0.3 * torch.randn(layout.layer_count, layout.hidden_size, generator=generator, dtype=torch.float64)
    return layout, {layer: Shift(writer.path, vectors[layer], 0.8) for layer, writer in chosen.items()}


def adjustments_for(model: PreTrainedModel, layout: ModelLayout) -> tuple[ModelLayout, dict[str, Adjustments]]:
    """The layout afterwards, and by name the adjustments that this model can have."""
    layout, shifts = some_shifts(model, layout)
    masks = some_heads(model, layout)
    found = {}
    if masks:
        found["heads"] = Adjustments(input_masks=masks)
    if shifts:
        found["shifts"] = Adjustments(shifts=shifts)
    if masks and shifts:
        found["both"] = Adjustments(
            tuple(0.5 + 0.5 * layer for layer in range(layout.layer_count)),
            some_heads(model, layout, turn=1),
            shifts,
        )
    return layout, found
