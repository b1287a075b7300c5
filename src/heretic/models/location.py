"""Where a model named by the user is: bundled, a folder, a GGUF file, or on the hub."""

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from heretic.common.errors import ModelError, first_line
from heretic.common.file_names import expanded, public_name, safe_name
from heretic.common.integrity import read_foreign
from heretic.models.demo import DEMO_EDIT_FOLDER, DEMO_MODEL_FOLDER

DEMO, DEMO_EDITED = "demo", "demo-edited"
"""Names of the bundled toy model, and of it with its bundled edit."""
BUNDLED = frozenset({DEMO, DEMO_EDITED})
ADAPTER = "adapter_config.json"
"""File of an adapter that says of which kind it is."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Location:
    """What transformers is asked for.

    Attributes:
        name: What the user typed.
        source: Hub id or folder.
        gguf_file: File name inside that folder, or None.
        is_hub: Whether the source is a hub id.
        adapter: Folder of an adapter that belongs to the model, or None.
        revision: Of the hub's repository, as the adapter names it.
    """

    name: str
    source: str
    gguf_file: str | None = None
    is_hub: bool = False
    adapter: str | None = None
    revision: str | None = None

    @property
    def parts(self) -> "tuple[Location, ...]":
        """The model, and where its adapter lies in a folder of its own that folder, each to be checked by itself."""
        if self.adapter is None or self.adapter == self.source:
            return (self,)
        return (self, Location(self.name, self.adapter))


def locate(name: str, base: str | None = None) -> Location:
    """Find out what a name means.

    ``demo`` is the bundled model (``./demo`` is a folder of that name), ``demo-edited`` its edit. Otherwise a folder or
    file that exists wins over a hub id, as it does in transformers: where the current directory holds ``owner/model``,
    that is loaded.

    Args:
        name: As the user typed it.
        base: Model of an adapter whose own one is not to be found.

    Raises:
        ModelError: A path that does not exist, or a folder that holds no model.
    """
    if name == DEMO:
        return Location(name, str(DEMO_MODEL_FOLDER))
    if name == DEMO_EDITED:
        return Location(name, str(DEMO_MODEL_FOLDER), adapter=str(DEMO_EDIT_FOLDER))
    path = expanded(name)
    if os.path.isdir(path):
        files = _listed(name, path)
        if "config.json" in files:
            return Location(name, str(path), adapter=str(path) if ADAPTER in files else None)
        if ADAPTER in files:
            return _adapted(name, path, base)
        packed = [file for file in files if file.lower().endswith(".gguf")]
        advice = f"name the file {path / packed[0]}" if packed else "name the folder that holds it, or a .gguf file"
        raise ModelError(f"The folder {name} holds no config.json, so it is no transformers model; {advice}.")
    if os.path.isfile(path):
        if path.suffix.lower() != ".gguf":
            raise ModelError(f"{name} is a file; name the model's folder, or a .gguf file.")
        return Location(name, str(path.parent), gguf_file=path.name)
    if _looks_like_a_path(name):
        raise ModelError(f"There is no folder or file {name}; check the path, or name a hub model as owner/name.")
    return Location(name, name, is_hub=True)


def shown_model(name: str) -> str:
    """A hub id as it is; of a path what `public_name` gives, since folders are nobody else's business."""
    path = expanded(name)
    is_path = name not in BUNDLED and (os.path.exists(path) or _looks_like_a_path(name))
    return public_name(str(path.resolve())) if is_path else name


def edited_name(name: str) -> str:
    """What an edited copy of a model is called unless the person says something else."""
    path = PurePosixPath(shown_model(name))
    return f"{safe_name(path.stem if path.suffix.lower() == '.gguf' else path.name)}-heretic"


def _looks_like_a_path(name: str) -> bool:
    return not _HUB_ID.fullmatch(name) or name.lower().endswith(".gguf")


def _listed(name: str, folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except PermissionError as error:
        raise ModelError(f"The folder {name} cannot be read; check its permissions.") from error


def _adapted(name: str, folder: Path, base: str | None) -> Location:
    """The model that an adapter in a folder of its own was made for."""
    try:
        table = json.loads(read_foreign(folder / ADAPTER).decode("utf-8"))
        stated, revision = (table.get(key) for key in ("base_model_name_or_path", "revision"))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{folder / ADAPTER} cannot be read ({first_line(error)}); get the adapter again.") from error
    model = (base_of(folder, stated) if isinstance(stated, str) else None) or base
    if model is None:
        raise ModelError(
            f"The folder {name} holds an adapter whose base model {stated!r} is not here; put that beside the adapter, "
            f"or write its folder or hub id into {ADAPTER} (base_model_name_or_path)."
        )
    if os.path.exists(expanded(model) / ADAPTER) or model.lower().endswith(".gguf"):
        raise ModelError(
            f"The adapter {name} was made for {model}, which is an adapter or a GGUF file itself; merge these and name "
            "the result."
        )
    location = locate(model)
    commit = revision if location.is_hub and isinstance(revision, str) else None
    return replace(location, name=name, adapter=str(folder), revision=commit)


def base_of(folder: Path, stated: str) -> str | None:
    """Where the model is that an adapter names, or None where it is nowhere."""
    if not stated or stated in BUNDLED:
        return stated or None
    # What was saved elsewhere names its model by a folder's name alone.
    for place in (expanded(stated), folder.resolve().parent / stated):
        if os.path.isdir(place):
            return str(place)
    return stated if "/" in stated and not _looks_like_a_path(stated) else None
