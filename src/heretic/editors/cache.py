"""Where original weights come back from, and the one place that is in memory: a layer-wise cache.

It holds only the tensors that can be edited; everything else of a model never changes.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heretic.common.errors import CacheMismatchError, OutOfMemoryError
from heretic.edits.writer import ModelLayout, ResidualWriter
from heretic.models.access import writer_bias, writer_weight
from heretic.models.devices import free_memory
from heretic.models.memory import RanOut, attempt
from heretic.observability.events import WeightsCached, emit
from heretic.observability.steps import counted, step

DEVICE_SHARE = 0.25
"""The cache stays on the device where it takes at most this share of the free memory there."""


class PristineSource(Protocol):
    """Gives original tensors back."""

    def tensors(self, model: PreTrainedModel, writers: Iterable[ResidualWriter]) -> Mapping[str, Tensor]:
        """The original weights (and biases) of these writers by tensor name, as stored in the model."""


def editable_tensors(model: PreTrainedModel, writer: ResidualWriter) -> dict[str, Tensor]:
    """The parameters of one writer by their name in the state dict, as they are now (no copy)."""
    tensors = {writer.tensor_name: writer_weight(model, writer).data}
    bias = writer_bias(model, writer)
    if bias is not None and writer.bias is not None:
        tensors[f"{writer.path}.{writer.bias}"] = bias.data
    return tensors


def check_fit(writer: ResidualWriter, name: str, tensor: Tensor, copy: Tensor | None) -> None:
    """Compare a tensor of the model with its original copy.

    Raises:
        CacheMismatchError: There is no copy, or it has another shape or dtype.
    """
    where = f"layer {writer.layer}, component {writer.component}, tensor {name}"
    if copy is None:
        raise CacheMismatchError(f"The weight cache lacks {where}; start the run again to make a new cache.")
    if copy.shape != tensor.shape or copy.dtype != tensor.dtype:
        raise CacheMismatchError(
            f"The weight cache does not fit {where}: cached {tuple(copy.shape)} {copy.dtype}, model "
            f"{tuple(tensor.shape)} {tensor.dtype}; start the run again to make a new cache."
        )


def _copy(tensor: Tensor, stays: bool) -> Tensor:
    """A copy where the tensor is, if it `stays` and fits there, else in host memory.

    Raises:
        OutOfMemoryError: It fits nowhere.
    """
    doing = "keeping original weights"
    if stays and tensor.device.type != "cpu":
        copy = attempt(tensor.clone, tensor.device, f"{doing} on the device")
        if not isinstance(copy, RanOut):
            return copy
    copy = attempt(lambda: tensor.to("cpu", copy=True), tensor.device, doing)
    if not isinstance(copy, RanOut):
        return copy
    raise OutOfMemoryError(
        f"Memory ran out while original weights were copied ({copy.used}); end other programs, or use "
        "--cache-weights false, which copies only what the model's files do not hold."
    )


@dataclass(frozen=True, slots=True, eq=False)
class WeightCache:
    """Copies of the editable tensors, taken before the first edit.

    Attributes:
        layout: The layout that the copies belong to.
        copies: Tensor by name in the state dict.
    """

    layout: ModelLayout
    copies: Mapping[str, Tensor]

    @classmethod
    def capture(
        cls, model: PreTrainedModel, layout: ModelLayout, names: Collection[str] | None = None
    ) -> "WeightCache":
        """Copy editable tensors; in host memory where the device lacks room. Emits WeightsCached.

        Args:
            model: Unedited.
            layout: Where its editable tensors are.
            names: Which of them; all where it is None.

        Raises:
            OutOfMemoryError: The host lacks room too.
        """
        originals: dict[str, Tensor] = {}
        for writer in layout.writers:
            tensors = editable_tensors(model, writer).items()
            originals.update((name, tensor) for name, tensor in tensors if names is None or name in names)
        needed: dict[torch.device, int] = {}
        for tensor in originals.values():
            needed[tensor.device] = needed.get(tensor.device, 0) + tensor.nbytes
        fits = {device: size <= DEVICE_SHARE * free_memory(device) for device, size in needed.items()}
        with step("keeping original weights"):
            copies = {
                name: _copy(tensor, fits[tensor.device])
                for name, tensor in counted(originals.items(), len(originals), "tensors")
            }
        size = sum(needed.values())
        model_size = sum(parameter.nbytes for parameter in model.parameters())
        devices = sorted({str(tensor.device) for tensor in copies.values()})
        emit(WeightsCached(len(copies), size, size / model_size, ", ".join(devices)))
        return cls(layout, copies)

    def check(self, model: PreTrainedModel, layout: ModelLayout) -> None:
        """Compare cache and model.

        Raises:
            CacheMismatchError: Names the layer, component and tensor of the first difference.
        """
        if layout.layer_count != self.layout.layer_count:
            raise CacheMismatchError(
                f"The weight cache holds {self.layout.layer_count} layers and the model has {layout.layer_count}; "
                "start the run again so that the cache is made from this model."
            )
        for writer in layout.writers:
            for name, tensor in editable_tensors(model, writer).items():
                check_fit(writer, name, tensor, self.copies.get(name))

    def tensors(self, model: PreTrainedModel, writers: Iterable[ResidualWriter]) -> Mapping[str, Tensor]:
        """See PristineSource.

        Raises:
            CacheMismatchError: A tensor of the model is not in the cache, or has another shape or dtype.
        """
        result = {}
        for writer in writers:
            for name, tensor in editable_tensors(model, writer).items():
                check_fit(writer, name, tensor, self.copies.get(name))
                result[name] = self.copies[name]
        return result
