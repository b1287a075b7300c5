"""How a weight inside a decoder layer is stored, and whether it can be edited where it is."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from heretic.edits.writer import Orientation, WriterKind
from heretic.models.families import FUSED_EXPERT_ORIENTATIONS, PACKED_EXPERTS
from heretic.models.private_api import Conv1D, is_transposed

EDITABLE_DTYPES = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})

BITSANDBYTES_CLASSES = frozenset({"Linear4bit", "Linear8bitLt", "LinearNF4", "LinearFP4"})

CONSTANT_NAMES = frozenset({"bias", "dense_bias"})
"""Parameters [D] that a module without a weight of its own adds to its output."""


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """One weight that may write the residual stream.

    Attributes:
        name: Path relative to the layer as families declare it: the module's for linear-like modules, else the
            module's and the parameter's name.
        module_path: Path of the module relative to the layer.
        module: The module that holds the weight.
        parameter: Name of the weight in that module.
        output_sizes: Sizes that its output may have; several where the axis order is open.
        kind: How it is stored, or None where no writer is stored like that.
    """

    name: str
    module_path: str
    module: nn.Module
    parameter: str
    output_sizes: frozenset[int]
    kind: WriterKind | None

    @property
    def tensor(self) -> nn.Parameter | None:
        """The weight itself, or None where the module has no parameter of that name."""
        return direct_parameters(self.module).get(self.parameter)


def direct_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a module holds itself, by name."""
    return dict(module.named_parameters(recurse=False, remove_duplicate=False))


def stored_weights(layer: nn.Module) -> Iterator[StoredWeight]:
    """Yield every weight of a layer whose output could be added to the residual stream, whatever it is called."""
    for path, module in layer.named_modules(remove_duplicate=False):
        sizes = linear_sizes(module)
        if sizes is not None:
            kind = WriterKind.CONV1D if isinstance(module, Conv1D) else WriterKind.LINEAR
            yield StoredWeight(path, path, module, "weight", frozenset({sizes[0]}), kind)
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            yield StoredWeight(path, path, module, "weight", frozenset({module.out_channels}), None)
        else:
            yield from _direct_weights(path, module)


def linear_sizes(module: nn.Module) -> tuple[int, int] | None:
    """Return (output size, input size) of a linear-like module, quantised stand-ins included, else None."""
    if isinstance(module, Conv1D):
        return int(module.nf), int(module.nx)
    output_size, input_size = getattr(module, "out_features", None), getattr(module, "in_features", None)
    if isinstance(output_size, int) and isinstance(input_size, int) and not isinstance(module, nn.Bilinear):
        return output_size, input_size
    return None


def loose_constants(layer: nn.Module, hidden_size: int) -> Iterator[str]:
    """Yield paths of bias vectors [D] that belong to no linear-like module and no norm of the layer."""
    for path, module in layer.named_modules(remove_duplicate=False):
        parameters = direct_parameters(module)
        if "weight" in parameters or linear_sizes(module) is not None:
            continue
        for name, tensor in parameters.items():
            if name in CONSTANT_NAMES and tensor.shape == (hidden_size,):
                yield _join(path, name)


def _direct_weights(path: str, module: nn.Module) -> Iterator[StoredWeight]:
    packed = PACKED_EXPERTS.get(type(module).__name__)
    parameters = direct_parameters(module)
    if packed is not None and packed not in parameters:
        hidden_size = getattr(module, "hidden_size", None)
        sizes = frozenset({hidden_size} if isinstance(hidden_size, int) else ())
        yield StoredWeight(_join(path, packed), path, module, packed, sizes, WriterKind.FUSED_EXPERTS)
    for name, tensor in parameters.items():
        # A vector stored with extra axes of size one (RWKV's time mixing) is no matrix.
        if name.endswith("_bias") or tensor.numel() == max(tensor.shape, default=1):
            continue
        kind = WriterKind.FUSED_EXPERTS if tensor.ndim == 3 else None
        yield StoredWeight(_join(path, name), path, module, name, frozenset(tensor.shape[-2:]), kind)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def reason_against_editing(weight: StoredWeight, hidden_size: int) -> str | None:
    """Say why a writer cannot be edited where it is stored, in words, or None where it can."""
    tensor = weight.tensor
    stored_as = type(weight.module).__name__
    if tensor is None and stored_as in PACKED_EXPERTS:
        return f"its weight is packed ({stored_as}); load the model unquantised or dequantised to edit it"
    if tensor is None:
        return f"{stored_as} has no {weight.parameter} of its own that could be edited"
    if tensor.device.type == "meta":
        return "its weight is offloaded from memory; give the model more memory (max_memory) to edit it"
    if is_quantized(weight.module):
        return None
    if tensor.dtype not in EDITABLE_DTYPES:
        return (
            f"its weight is stored as {str(tensor.dtype).removeprefix('torch.')} ({stored_as}), not in floating point"
        )
    if weight.kind is None:
        return f"its weight {list(tensor.shape)} in {stored_as} is in no form that Heretic can edit"
    if weight.kind is WriterKind.FUSED_EXPERTS and fused_orientation(weight, hidden_size) is None:
        return (
            f"the axis order of {list(tensor.shape)} in {stored_as} is unknown; "
            "declare it in FUSED_EXPERT_ORIENTATIONS in heretic/models/families.py"
        )
    return None


def fused_orientation(weight: StoredWeight, hidden_size: int) -> Orientation | None:
    """Return the axis order of a fused expert tensor, or None where nothing tells it.

    Expert modules of transformers state it (`is_transposed`, what their forward passes follow); other classes are
    declared. A shape tells only where one axis alone has the hidden size, and it never overrules a statement.
    """
    tensor = weight.tensor
    if tensor is None:
        return None
    possible = {
        orientation
        for orientation, size in ((Orientation.OUT_IN, tensor.shape[-2]), (Orientation.IN_OUT, tensor.shape[-1]))
        if size == hidden_size
    }
    transposed = is_transposed(weight.module)
    stated = FUSED_EXPERT_ORIENTATIONS.get(type(weight.module).__name__)
    if transposed is not None:
        stated = Orientation.IN_OUT if transposed else Orientation.OUT_IN
    if stated is not None:
        return stated if stated in possible else None
    return possible.pop() if len(possible) == 1 else None


def is_quantized(module: nn.Module) -> bool:
    """Whether a linear module's weight is packed by bitsandbytes."""
    return type(module).__name__ in BITSANDBYTES_CLASSES
