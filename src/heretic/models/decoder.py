"""Where a model's decoder layers are and how wide its residual stream is."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from heretic.common.errors import LayoutError
from heretic.models.families import DECODER_LAYER_PATHS

OTHER_TOWERS = frozenset(
    {"vision", "visual", "image", "audio", "speech", "video", "encoder", "tower", "talker", "code2wav", "mtp"}
)
"""Words in the paths of towers that are not the text decoder."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """The decoder layers of a model.

    Attributes:
        hidden_size: D, the width of the residual stream.
        paths: Module path of each layer.
        layers: The layers themselves.
        model_types: Model types of the text configuration and of the whole one.
    """

    hidden_size: int
    paths: tuple[str, ...]
    layers: tuple[nn.Module, ...]
    model_types: tuple[str, ...]

    def named_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Return (path, layer) pairs in order."""
        return zip(self.paths, self.layers, strict=True)


def find_decoder(model: PreTrainedModel) -> Decoder:
    """Locate the decoder layers of a text or vision-language model.

    Raises:
        LayoutError: The model is an encoder-decoder, or its layers or hidden size cannot be found.
    """
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise LayoutError(
            f"{name} is an encoder-decoder model and Heretic edits decoder-only language models; choose one of those."
        )
    text_config = model.config.get_text_config(decoder=True)
    path, layers = _decoder_layers(model, getattr(text_config, "num_hidden_layers", None))
    hidden_size = getattr(text_config, "hidden_size", None)
    if not isinstance(hidden_size, int):
        raise LayoutError(
            f"The configuration of {name} names no hidden_size; add the field to its config.json and start again."
        )
    types = (getattr(text_config, "model_type", ""), getattr(model.config, "model_type", ""))
    return Decoder(
        hidden_size,
        tuple(f"{path}.{index}" for index in range(len(layers))),
        tuple(layers),
        tuple(dict.fromkeys(kind for kind in types if kind)),
    )


def submodule(root: nn.Module, path: str) -> nn.Module | None:
    """Return the module at a dotted path, or None where there is none."""
    module: nn.Module | None = root
    for name in path.split("."):
        # Not getattr, which finds properties as well: a layer has one path, by which its weights are saved.
        module = None if module is None else dict(module.named_children()).get(name)
    return module


def _decoder_layers(model: PreTrainedModel, layer_count: int | None) -> tuple[str, nn.ModuleList]:
    for path in DECODER_LAYER_PATHS:
        layers = submodule(model, path)
        if isinstance(layers, nn.ModuleList) and len(layers) > 0:
            return path, layers
    candidates = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == layer_count and not _in_other_tower(path)
    ]
    # Of nested lists (experts inside layers, say) the outermost ones are candidates for layers.
    outermost = [entry for entry in candidates if not any(entry[0].startswith(f"{path}.") for path, _ in candidates)]
    if len(outermost) == 1:
        return outermost[0]
    lists = [f"{path} ({len(module)})" for path, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    raise LayoutError(
        f"The decoder layers of {type(model).__name__} cannot be located; its module lists are: "
        f"{', '.join(lists) or 'none'}. "
        "Add the path of the right one to DECODER_LAYER_PATHS in heretic/models/families.py."
    )


def _in_other_tower(path: str) -> bool:
    words = path.replace("_", ".").split(".")
    return not OTHER_TOWERS.isdisjoint(words)
