"""The headers of safetensors files: which tensors a model's weights are, without reading one; no torch is needed."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from heretic.common.errors import ModelError
from heretic.common.file_names import leads_outside
from heretic.common.integrity import read_foreign

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
WIDTHS = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2, "I16": 2, "U16": 2,
}  # fmt: skip
"""Bytes of a number by the names that safetensors files have for formats; all others take one."""
_LONGEST_HEADER = 100 * 1024**2
"""Bytes; safetensors reads no longer one."""

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a weight file: its name, its format as safetensors calls it, and its shape."""

    name: str
    format: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in its file."""
        return self.numbers * WIDTHS.get(self.format, 1)


def header(path: Path) -> dict[str, Any]:
    """The table of a safetensors file's tensors.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such file.
    """
    return _read(path)[0]


def stated_size(path: Path) -> int:
    """Bytes that a safetensors file has by its header; one that was cut off has fewer.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such file.
    """
    table, length = _read(path)
    try:
        return 8 + length + max((int(entry["data_offsets"][1]) for entry in table.values()), default=0)
    except (LookupError, TypeError) as error:
        raise ValueError("its header names no places of tensors") from error


def _read(path: Path) -> tuple[dict[str, Any], int]:
    if not path.is_file():
        # A pipe or a device would be waited for.
        raise ValueError("it is no ordinary file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(length)) if length <= _LONGEST_HEADER else None
    if not isinstance(table, dict):
        raise ValueError("its header is none of safetensors")
    return {name: entry for name, entry in table.items() if name != "__metadata__"}, length


def tensors_of(table: Table) -> Iterator[Tensor]:
    """The tensors that a header names.

    Raises:
        LookupError, TypeError: It names them otherwise than safetensors does.
    """
    for name, entry in table.items():
        yield Tensor(name, str(entry["dtype"]), tuple(int(size) for size in entry["shape"]))


def weight_names(folder: Path) -> list[str]:
    """The weight files of a model's folder as transformers prefers them: one file, else those that an index names.

    What else lies there, such as the same weights in the form of another program, is not loaded.

    Raises:
        OSError: The index cannot be read.
        ValueError: It names no files, or some outside of the folder.
    """
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if not (folder / INDEX).is_file():
        return []
    index = json.loads(read_foreign(folder / INDEX))
    named = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise ValueError("it names no weight files")
    if any(map(leads_outside, named.values())):
        raise ValueError("it names files outside of its folder")
    return sorted(set(named.values()))


def tensors_in(folder: Path, names: Iterable[str], name: str) -> tuple[Tensor, ...]:
    """Every tensor of some weight files.

    Args:
        folder: The model's.
        names: See `weight_names`.
        name: What the user typed, for messages.

    Raises:
        ModelError: One cannot be read.
    """
    result: list[Tensor] = []
    for each in names:
        try:
            result += tensors_of(header(folder / each))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{each} of {name} cannot be read ({error}); get the model again.") from error
    return tuple(result)


def tensors_of_model(folder: Path, name: str) -> tuple[Tensor, ...]:
    """Every tensor that transformers loads from a folder.

    Raises:
        ModelError: There are no safetensors, or they cannot be read.
    """
    try:
        names = weight_names(folder)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{INDEX} of {name} cannot be read ({error}); get the model again.") from error
    if not names:
        raise ModelError(f"{name} has neither {WEIGHTS} nor {INDEX}, whose headers say how large it is; convert it.")
    return tensors_in(folder, names, name)
