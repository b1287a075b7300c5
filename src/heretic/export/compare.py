"""Saved tensors beside a model's, bit for bit: as a file holds them, and as another copy of the model does."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from heretic.common.errors import ExportError
from heretic.models.access import same_bits
from heretic.observability.steps import counted


def compare_files(folder: Path, model: PreTrainedModel) -> list[str]:
    """Compare every saved tensor with the model's, bit for bit, one tensor in memory at a time.

    Returns:
        Names in the files that the model does not have: transformers stores some families (fused experts, for example)
        under their original names. Those are compared when the folder is loaded.

    Raises:
        ExportError: A tensor differs; names the first.
    """
    expected = model.state_dict()
    unknown = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            for name in counted(names, len(names), "tensors"):
                tensor = expected.get(name)
                if tensor is None or tensor.device.type == "meta":
                    unknown.append(name)
                elif not same_bits(file.get_tensor(name), tensor):
                    raise ExportError(
                        f"The saved tensor {name} differs from the model's; nothing was saved. "
                        "Check the disk and try again."
                    )
    return unknown


def compare_models(reloaded: PreTrainedModel, model: PreTrainedModel) -> None:
    """Compare every tensor of a reloaded model, bit for bit, and which embeddings are tied.

    Raises:
        ExportError: Something differs; names the first tensor.
    """
    reloaded_tensors = reloaded.state_dict()
    tensors = model.state_dict()
    for name, tensor in counted(tensors.items(), len(tensors), "tensors"):
        if tensor.device.type == "meta":
            continue  # offloaded to the disk: its answers are compared
        other = reloaded_tensors.get(name)
        if other is not None and torch.promote_types(tensor.dtype, other.dtype) == other.dtype:
            # Some families load single tensors (router biases) in fp32 always; widening loses nothing.
            tensor = tensor.to(other.dtype)
        if other is None or not same_bits(other, tensor):
            raise ExportError(f"The tensor {name} of the saved model differs after loading; nothing was saved.")
    if _is_tied(reloaded) != _is_tied(model):
        raise ExportError("The saved model ties input and output embeddings differently; nothing was saved.")


def _is_tied(model: Any) -> bool:
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    return inputs is not None and outputs is not None and inputs.weight is outputs.weight
