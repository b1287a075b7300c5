"""Original weights from the model's own files: no copy is kept of what these hold bit for bit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from heretic.common.errors import CacheMismatchError, first_line
from heretic.editors.cache import PristineSource, WeightCache, check_fit, editable_tensors
from heretic.edits.writer import ModelLayout, ResidualWriter
from heretic.models.access import same_bits
from heretic.models.loaded import LoadedModel
from heretic.models.location import Location
from heretic.models.model_files import find_file, weight_files
from heretic.observability.steps import counted, step

Stamp = tuple[int, int]
"""Size and time of the last change of a file."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands in a file."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class FileSource:
    """Reads original tensors from safetensors files, which costs memory for one tensor at a time and a copy for each.

    Attributes:
        places: By name in the state dict; each was seen to hold what the model has, bit for bit.
        stamps: The files as they were then.
        otherwise: Copies of the tensors that no file holds so.
    """

    places: Mapping[str, Place]
    stamps: Mapping[Path, Stamp]
    otherwise: WeightCache | None = None

    def tensors(self, model: PreTrainedModel, writers: Iterable[ResidualWriter]) -> Mapping[str, Tensor]:
        """See PristineSource.

        Raises:
            CacheMismatchError: A file has changed since the model was loaded, or a tensor has another shape or dtype.
        """
        return _Reading(self, model, tuple(writers))

    def read(self, name: str, like: Tensor) -> Tensor:
        """One tensor in the dtype of the model's.

        Raises:
            CacheMismatchError: Its file has changed since the model was loaded.
        """
        place = self.places[name]
        try:
            if _stamp(place.path) == self.stamps[place.path]:
                return _tensor(place, like.dtype)
            reason = "it has changed"
        except (OSError, SafetensorError) as error:
            reason = first_line(error)
        raise CacheMismatchError(
            f"{place.path} no longer holds the original weights ({reason}); put it back, and start the run again, "
            "which goes on with the study."
        )


@dataclass(frozen=True, slots=True)
class _Reading(Mapping[str, Tensor]):
    """Tensors of some writers by name, each read when it is asked for."""

    source: FileSource
    model: PreTrainedModel
    writers: Sequence[ResidualWriter]
    _known: dict[str, tuple[ResidualWriter, Tensor]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for writer in self.writers:
            for name, tensor in editable_tensors(self.model, writer).items():
                self._known[name] = writer, tensor

    def __getitem__(self, name: str) -> Tensor:
        writer, tensor = self._known[name]
        copies = {} if self.source.otherwise is None else self.source.otherwise.copies
        original = copies[name] if name in copies else self.source.read(name, tensor)
        check_fit(writer, name, tensor, original)
        return original

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def original_weights(loaded: LoadedModel, layout: ModelLayout) -> PristineSource:
    """Where the editable weights of an unedited model come back from: its files, and copies of what these do not hold.

    Weights that were dequantised, merged with an adapter, fused or split when they were loaded are not in the files as
    the model has them. Emits WeightsCached where any are copied.
    """
    location = Location(loaded.name, loaded.source, is_hub=loaded.commit is not None)
    names = weight_files(location, loaded.commit) if loaded.weights == "safetensors" else []
    paths = [find_file(location, name, loaded.commit) for name in names if name.endswith(".safetensors")]
    return find_originals(loaded.model, layout, [path for path in paths if path is not None])


def find_originals(model: PreTrainedModel, layout: ModelLayout, paths: Sequence[Path]) -> PristineSource:
    """See `original_weights`; `paths` are the files."""
    with step("comparing weights with their files"):
        held = _held(paths)
        tensors = {
            name: tensor for writer in layout.writers for name, tensor in editable_tensors(model, writer).items()
        }
        places = {
            name: place
            for name, tensor in counted(tensors.items(), len(tensors), "tensors")
            if (place := _place(held, name)) is not None and _holds(place, tensor)
        }
    if not places:
        return WeightCache.capture(model, layout)
    missing = tensors.keys() - places.keys()
    stamps = {place.path: _stamp(place.path) for place in places.values()}
    return FileSource(places, stamps, WeightCache.capture(model, layout, missing) if missing else None)


def _held(paths: Sequence[Path]) -> dict[str, Place]:
    """Every tensor of some files by its name there."""
    held: dict[str, Place] = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            held.update({name: Place(path, name) for name in file.keys()})  # noqa: SIM118 - it is no mapping
    return held


def _place(held: Mapping[str, Place], name: str) -> Place | None:
    """Where a tensor may be: under its name, or without the model's prefix, as base models are stored."""
    return held.get(name) or held.get(name.partition(".")[2])


def _holds(place: Place, tensor: Tensor) -> bool:
    """Whether a file's tensor gives the model's, bit for bit."""
    if tensor.device.type == "meta":
        return False
    return same_bits(_tensor(place, tensor.dtype), tensor)


def _tensor(place: Place, dtype: torch.dtype) -> Tensor:
    with safe_open(place.path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(place.name)
    return tensor.to(dtype)


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
