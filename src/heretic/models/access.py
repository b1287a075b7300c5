"""From a writer's description to the tensors of a loaded model."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heretic.common.errors import LayoutError
from heretic.edits.writer import Orientation, ResidualWriter
from heretic.models.storage import direct_parameters

_ELSEWHERE = "heretic_values"


class Elsewhere(Protocol):
    """Holds the values of a parameter in another form, while the parameter itself holds none."""

    def values(self) -> Tensor:
        """The parameter's values, bit for bit; a copy."""

    def put_back(self) -> None:
        """Give the values back to the parameter, and to all others of its model."""


def stow(parameter: nn.Parameter, elsewhere: Elsewhere) -> None:
    """Let a parameter keep its shape and give up its values: whoever reads it unasked sees NaN, and cannot write."""
    parameter.data = parameter.data.new_full((), torch.nan).expand(parameter.shape)
    setattr(parameter, _ELSEWHERE, elsewhere)


def unstow(parameter: nn.Parameter) -> None:
    """Let a parameter hold its values again."""
    elsewhere: Elsewhere = getattr(parameter, _ELSEWHERE)
    parameter.data = elsewhere.values()
    delattr(parameter, _ELSEWHERE)


def values_of(parameter: nn.Parameter) -> Tensor:
    """A parameter's values, wherever they are."""
    elsewhere: Elsewhere | None = getattr(parameter, _ELSEWHERE, None)
    return parameter.data if elsewhere is None else elsewhere.values()


def put_back(parameters: Iterable[nn.Parameter]) -> None:
    """See that parameters hold their values themselves."""
    for parameter in parameters:
        elsewhere: Elsewhere | None = getattr(parameter, _ELSEWHERE, None)
        if elsewhere is not None:
            elsewhere.put_back()


def writer_weight(model: PreTrainedModel, writer: ResidualWriter) -> nn.Parameter:
    """Return the writer's weight as the model holds it (packed where bitsandbytes packs it), ready to be written to.

    Raises:
        LayoutError: The model has no such weight, so the layout belongs to another model.
    """
    weight = _weight(model, writer)
    put_back([weight])
    return weight


def writer_values(model: PreTrainedModel, writer: ResidualWriter) -> Tensor:
    """Return the values of the writer's weight, only to be read; where its model's weights are ordered they stay so.

    Raises:
        LayoutError: As `writer_weight`.
    """
    return values_of(_weight(model, writer))


def _weight(model: PreTrainedModel, writer: ResidualWriter) -> nn.Parameter:
    weight = direct_parameters(model.get_submodule(writer.path)).get(writer.parameter)
    if weight is None:
        raise LayoutError(f"This model has no weight {writer.tensor_name}; its layout was found on another model.")
    return weight


def is_listed_expert(model: nn.Module, path: str) -> bool:
    """Whether a module belongs to one expert of a list of modules."""
    parents = accumulate(path.split(".")[:-1], "{}.{}".format)
    lists = (model.get_submodule(parent) for parent in parents if parent.endswith("experts"))
    return any(isinstance(module, nn.ModuleList) for module in lists)


def oriented(writer: ResidualWriter, stored: Tensor) -> Tensor:
    """A stored weight as [..., D, m] (a view)."""
    return stored.mT if writer.orientation is Orientation.IN_OUT else stored


def writer_bias(model: PreTrainedModel, writer: ResidualWriter) -> nn.Parameter | None:
    """Return the writer's bias, [D] or [E, D] for fused experts, or None where it has none.

    Raises:
        LayoutError: The layout says that there is a bias and the model has none.
    """
    if writer.bias is None:
        return None
    bias = direct_parameters(model.get_submodule(writer.path)).get(writer.bias)
    if bias is None:
        raise LayoutError(f"This model has no bias {writer.path}.{writer.bias}; its layout was found on another model.")
    return bias


def post_norm_gain(model: PreTrainedModel, writer: ResidualWriter) -> Tensor | None:
    """Return the [D] fp32 gain between the writer and the residual stream, or None where no norm stands between them.

    The norm's division by the root mean square is not part of it: that is one number a token.
    """
    gain: Tensor | None = None
    for path in (writer.post_norm, writer.outer_post_norm):
        if path is None:
            continue
        weight = direct_parameters(model.get_submodule(path)).get("weight")
        norm_gain = (
            torch.ones(writer.output_size) if weight is None else weight.detach().float() + writer.post_norm_offset
        )
        gain = norm_gain if gain is None else gain * norm_gain
    return gain


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors have the same dtype, shape and bits, wherever they lie."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(_bits(first).cpu(), _bits(second).cpu())


def _bits(tensor: Tensor) -> Tensor:
    """A tensor's bytes: unlike values, NaN equals NaN and 0 does not equal -0."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
