"""Sizes that a configuration names, compared with the headers of the weights before anything is built by them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heretic.common.errors import ModelError
from heretic.models.location import Location
from heretic.models.model_files import entries, find_file, read_json, weight_files
from heretic.models.weight_headers import header, tensors_of

_LAYERS = re.compile(r"layers?$|depths?$|blocks$")
_EXPERTS = re.compile(r"experts$")
_SIZES = re.compile(r"_size$|_dim$|heads$|^n_embd$|^d_model$|^n_inner$|^d_ff$")
USUAL_LAYERS, USUAL_EXPERTS, USUAL_SIZE = 1024, 4096, 2**20
"""Larger ones need weights that hold them."""
_NEEDED = ("num_hidden_layers", "hidden_size", "vocab_size")


def check_sizes(location: Location, commit: str | None, configuration: Mapping[str, Any]) -> None:
    """Refuse a configuration of more layers than its weights have tensors, or of wider ones than their largest tensor.

    Building a model takes time and memory for every layer, and for some sizes.

    Args:
        location: Where the model is.
        commit: Of a repository.
        configuration: As JSON.

    Raises:
        ModelError: Names the entry.
    """
    numbers = [(key, value) for key, value in entries(configuration) if isinstance(value, int)]
    limits = ((_LAYERS, USUAL_LAYERS), (_EXPERTS, USUAL_EXPERTS), (_SIZES, USUAL_SIZE))
    large = [
        (key, value, kind) for key, value in numbers for kind, usual in limits if kind.search(key) and value > usual
    ]
    if not large:
        return
    tensors, largest = _held(location, commit)
    for key, value, kind in large:
        if value > (largest if kind is _SIZES else tensors):
            shown = value if value < 10**12 else "beyond 10^12"
            raise ModelError(
                f"The configuration of {location.name} has {key} {shown}, but its "
                f"weights are {tensors} tensors of at most {largest} numbers; get the model from another source."
            )


def check_text_sizes(location: Location, configuration: Any) -> None:
    """Refuse a model without layers, width or words.

    Raises:
        ModelError: Names the entry.
    """
    text = configuration.get_text_config()
    for name in _NEEDED:
        value = getattr(text, name, None)
        if isinstance(value, int) and value < 1:
            raise ModelError(
                f"The configuration of {location.name} has {name} {value}, so there is nothing to edit; get the model "
                "from another source."
            )


def _held(location: Location, commit: str | None) -> tuple[int, int]:
    """How many tensors the weights hold, and how many numbers the largest of them; of other formats a bound."""
    if location.gguf_file is not None:
        return _bound(Path(location.source) / location.gguf_file)
    if location.is_hub:
        # Headers would have to be downloaded with their weights.
        index = read_json(find_file(location, "model.safetensors.index.json", commit))
        named = index.get("weight_map")
        return (len(named), USUAL_SIZE) if isinstance(named, dict) else (USUAL_LAYERS, USUAL_SIZE)
    tensors, largest = 0, 0
    for name in weight_files(location, commit, allow_pickle=True):
        path = find_file(location, name, commit)
        if path is not None:
            count, most = _header(path) if name.endswith(".safetensors") else _bound(path)
            tensors, largest = tensors + count, max(largest, most)
    return tensors, largest


def _header(path: Path) -> tuple[int, int]:
    try:
        tensors = list(tensors_of(header(path)))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # Whoever loads it says that it is damaged.
        return _bound(path)
    return len(tensors), max((tensor.numbers for tensor in tensors), default=0)


def _bound(path: Path) -> tuple[int, int]:
    """What a file of any format could hold: a tensor has a name and a shape, and a number at least a bit."""
    size = path.stat().st_size
    return size // 32, 8 * size
