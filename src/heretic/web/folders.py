"""Which models there are to talk to: folders and files on this disk, the usable ones, and why the others are not.

Imports no torch. Nothing of a model is run or loaded here; checksums are compared when it is loaded.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heretic.common.errors import HereticError, UserError, first_line
from heretic.common.file_names import expanded, public_name
from heretic.common.integrity import (
    MANIFEST_NAME,
    check_sizes,
    entries_of,
    harmful,
    has_manifest,
    named,
    read_foreign,
    read_manifest_file,
)
from heretic.models.location import ADAPTER, BUNDLED, DEMO, DEMO_EDITED, Location, base_of, locate
from heretic.models.weight_headers import INDEX, WEIGHTS, stated_size, weight_names
from heretic.results.held_out import HeldOut
from heretic.results.score import Scores
from heretic.results.words import confirmation, numbers_beside_the_original
from heretic.web.errors import ModelInvalidError, ModelNotFoundError

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on this disk.

    Attributes:
        name: What is loaded: ``demo``, a folder, or a GGUF file.
        shown: How it is called on the page.
        bytes: Size of its weights.
        line: What it is, in a few words.
        problem: Why it cannot be used; empty where it can.
        base: Of a folder that Heretic saved, the model that was edited, as its manifest names it; else None.
        measured: Of such a folder, what was measured of the edit, in a sentence; else empty.
        behavior: Of such a folder, the behaviours that were edited; of the demo model the one that can be.
        goal: Of such a folder, what the edit is for, as in the settings; None where that is not known.
    """

    name: str
    shown: str
    bytes: int = 0
    line: str = ""
    problem: str = ""
    base: str | None = None
    measured: str = ""
    behavior: str = ""
    goal: str | None = None


def find_models(models_folder: Path, here: Path) -> list[FoundModel]:
    """The models in a folder of models and those that Heretic saved in another folder; the bundled ones last.

    Args:
        models_folder: Every folder and GGUF file in it counts as a model; it need not exist.
        here: Only folders with a manifest or an adapter in it count.
    """
    found: dict[Path, FoundModel] = {}
    for path in _entries(models_folder):
        if path.is_dir() or path.suffix.lower() == ".gguf":
            found[path.resolve()] = look_at(str(path))
    for path in _entries(here):
        if path.is_dir() and path.resolve() not in found and (has_manifest(path) or (path / ADAPTER).is_file()):
            found[path.resolve()] = look_at(str(path))
    return [*found.values(), look_at(DEMO_EDITED), look_at(DEMO)]


def _entries(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be read ({error.strerror}); check its permissions.") from error
    yield from (folder / name for name in names if not name.startswith("."))


def look_at(name: str) -> FoundModel:
    """What stands under a name; hub ids are not looked up, so they are taken as usable."""
    try:
        location = locate(name)
    except HereticError as error:
        return FoundModel(name, public_name(name), problem=str(error))
    shown = name if location.is_hub or name in BUNDLED else public_name(str(expanded(name).resolve()))
    if location.is_hub:
        return FoundModel(name, shown, line="a model of the hub")
    if location.gguf_file is not None:
        path = Path(location.source) / location.gguf_file
        return FoundModel(name, shown, path.stat().st_size, "a GGUF file")
    folder = expanded(location.adapter or location.source)
    try:
        manifest = read_manifest_file(folder / MANIFEST_NAME) if has_manifest(folder) else {}
        size, line = _checked(location, manifest)
    except (HereticError, OSError, ValueError) as error:
        return FoundModel(name, shown, problem=str(error))
    if not manifest:
        return FoundModel(name, shown, size, line, behavior=DEMO if name == DEMO else "")
    return _edited(FoundModel(name, shown, size, line), manifest)


def _checked(location: Location, manifest: Mapping[str, Any]) -> tuple[int, str]:
    """Bytes of the weights, and what the model is.

    Raises:
        ModelInvalidError: Something of it is missing or damaged.
        OSError: A file cannot be read.
    """
    folder = Path(location.source)
    config = _json(folder, "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelInvalidError("its config.json names no model_type; get the model again.")
    size = sum(_weights_size(folder, file) for file in _weight_files(folder))
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelInvalidError(f"it has no tokenizer ({_TOKENIZERS[0]}); get the model again.")
    line = f"a {kind} model"
    if location.adapter is not None:
        line = f"an adapter of {public_name(location.source)}"
    if manifest:
        differing = harmful(check_sizes(expanded(location.adapter or location.source), entries_of(manifest)))
        if differing:
            raise ModelInvalidError(
                f"it is not as its {MANIFEST_NAME} says: {next(named(differing))}; 'heretic verify' shows all."
            )
    return size, line


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise ModelInvalidError(f"it has no {name}; get the model again.")
    try:
        data = json.loads(read_foreign(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelInvalidError(f"its {name} cannot be read; get the model again.") from error
    if not isinstance(data, dict):
        raise ModelInvalidError(f"its {name} holds no table; get the model again.")
    return data


def _weight_files(folder: Path) -> list[str]:
    try:
        names = weight_names(folder)
    except (ValueError, RecursionError) as error:
        raise ModelInvalidError(f"its {INDEX} cannot be used ({first_line(error)}); get the model again.") from error
    if not names:
        raise ModelInvalidError(f"it has neither {WEIGHTS} nor {INDEX}; get the model as safetensors.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelInvalidError(
            f"{len(missing)} of its {len(names)} weight files are missing, such as {missing[0]}; download the rest."
        )
    return names


def _weights_size(folder: Path, name: str) -> int:
    """Bytes of a safetensors file, which has to be as long as its header says."""
    size = (folder / name).stat().st_size
    try:
        whole = stated_size(folder / name) == size
    except (ValueError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ModelInvalidError(f"its {name} is cut off or damaged; get that file again.")
    return size


def _edited(model: FoundModel, manifest: Mapping[str, Any]) -> FoundModel:
    """A folder with what its manifest tells of the edit, as far as that can be read."""
    source, behavior, settings = (manifest.get(name) for name in ("source", "behavior", "settings"))
    base = source.get("name") if isinstance(source, dict) else None
    if not isinstance(base, str) or not isinstance(behavior, str):
        return model
    try:
        if manifest.get("held_out") is not None:
            measured = confirmation(HeldOut.from_json(manifest["held_out"]))
        else:
            scores = Scores.from_json(manifest["scores"])
            measured = "" if scores is None else f"In the search: {numbers_beside_the_original(scores)}."
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        measured = "What was measured of it cannot be read."
    trial = manifest.get("trial")
    number = f", trial {trial}" if isinstance(trial, int) else ""
    goal = settings.get("goal") if isinstance(settings, dict) else None
    return replace(
        model,
        line=f"an edit of {base} (behaviour {behavior}{number})",
        base=base,
        measured=measured,
        behavior=behavior,
        # A manifest may hold anything, and folders of earlier versions no goal.
        goal=goal if isinstance(goal, str) else "",
    )


def original_of(edited: FoundModel, models_folder: Path) -> str:
    """What loads the model that an edited folder was made from.

    Raises:
        ModelNotFoundError: It was not saved by Heretic, or its original is not here.
    """
    if edited.base is None:
        raise ModelNotFoundError(
            f"{edited.shown} has no {MANIFEST_NAME} that names the model it was made from; name that with --model."
        )
    folder = expanded(edited.name)
    for place in (folder, models_folder / edited.shown):
        base = base_of(place, edited.base)
        if base is not None:
            return base
    raise ModelNotFoundError(
        f"{edited.shown} was made from {edited.base}, which is neither beside it nor in {models_folder}; put it there, "
        "or name it with --model."
    )
