"""Directions as a control vector: the GGUF file that llama.cpp (``--control-vector``) and repeng add to the stream.

``direction.i`` is added behind layer i, counted from 0, so it is the direction of residual position i + 1. llama.cpp
has none for layer 0. Such a file holds one vector a layer, whose length is its strength, and nothing that reads.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter

from heretic.common.errors import UserError
from heretic.common.file_systems import replacing
from heretic.directions.types import DirectionSet

SUFFIX = ".gguf"
_ARCHITECTURE = "controlvector"
_TENSOR = "direction."
_UNREADABLE = (OSError, ValueError, IndexError, KeyError, OverflowError, TypeError)
"""What GGUFReader raises of files that are damaged, or none."""


def write_control_vector(path: Path, directions: DirectionSet, model_type: str = "") -> None:
    """Write the directions of layers 1 to L - 1, each as long as its weight.

    Args:
        path: The file; an earlier one is kept where writing fails.
        directions: One for every position.
        model_type: What other programs may compare with the model's (`model_type` of its configuration).

    Raises:
        UserError: There are several directions a layer, fewer than two layers, or the file cannot be written.
    """
    count, layers = directions.count_per_layer, len(directions.vectors) - 1
    if count != 1:
        raise UserError(f"A control vector holds one direction a layer, and here are {count}; export a set with one.")
    if layers < 2:
        raise UserError("A control vector begins at the second layer, and these directions are of one layer alone.")
    scaled = (directions.vectors[:, 0] * directions.weights[:, :1]).float().cpu().numpy()
    try:
        with replacing(path) as unfinished:
            writer = GGUFWriter(unfinished, _ARCHITECTURE)
            writer.add_string(f"{_ARCHITECTURE}.model_hint", model_type)
            writer.add_uint32(f"{_ARCHITECTURE}.layer_count", layers - 1)
            for layer in range(1, layers):
                writer.add_tensor(f"{_TENSOR}{layer}", np.ascontiguousarray(scaled[layer + 1]))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
    except OSError as error:
        raise UserError(f"{path} cannot be written; check the folder and its permissions.") from error


def read_control_vector(path: Path) -> DirectionSet:
    """The directions of a control vector; layers that it has none for get weight 0. Their numbers are not checked.

    Raises:
        UserError: The file is no control vector, or what it holds cannot be used; one sentence.
    """
    unusable = f"{path} is no control vector that can be used"
    try:
        reader = GGUFReader(path)
        field = reader.fields.get("general.architecture")
        architecture = None if field is None else field.contents()
        vectors = {_layer(tensor.name): np.array(tensor.data) for tensor in reader.tensors if _is_direction(tensor)}
        if architecture not in (None, _ARCHITECTURE):
            raise UserError(f"{path} holds a model ({architecture}), and no directions; name a control vector.")
    except _UNREADABLE as error:
        raise UserError(f"{unusable} ({error or type(error).__name__}); write or get it again.") from error
    problem = _problem(vectors)
    if problem:
        raise UserError(f"{unusable}, because {problem}.")
    return _as_set(vectors, path.name)


def _is_direction(tensor: Any) -> bool:
    return str(tensor.name).startswith(_TENSOR)


def _layer(name: str) -> int:
    return int(name.removeprefix(_TENSOR))


def _problem(vectors: Mapping[int, Any]) -> str:
    if not vectors:
        return "it holds no vectors named direction.1, direction.2, ..."
    if min(vectors) < 0 or max(vectors) > 10 * len(vectors) + 100:
        return f"it names a layer {min(vectors) if min(vectors) < 0 else max(vectors)}"
    shapes = {vector.shape for vector in vectors.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1 or any(v.dtype != np.float32 for v in vectors.values()):
        return "its vectors are not numbers in float32 of one width"
    return ""


def _as_set(vectors: Mapping[int, Any], name: str) -> DirectionSet:
    layers, width = max(vectors) + 1, next(iter(vectors.values())).shape[0]
    stacked = torch.zeros(layers + 1, width)
    for layer, vector in vectors.items():
        stacked[layer + 1] = torch.from_numpy(vector)
    lengths = stacked.norm(dim=-1, keepdim=True)
    tiny = torch.finfo(stacked.dtype).tiny
    unit, weights = stacked / lengths.clamp_min(tiny), lengths / lengths.max().clamp_min(tiny)
    unknown = torch.full((layers + 1,), torch.nan)
    return DirectionSet(unit[:, None], weights, unknown, "control vector", {"file": name})
