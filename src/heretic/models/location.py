"""Where a model named by the user is: bundled, a folder, a GGUF file, or on the hub."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from heretic.common.errors import ModelError
from heretic.common.file_names import expanded, public_name
from heretic.models.demo import DEMO_MODEL_FOLDER

DEMO = "demo"
"""Name of the bundled toy model."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Location:
    """What transformers is asked for.

    Attributes:
        name: What the user typed.
        source: Hub id or folder.
        gguf_file: File name inside that folder, or None.
        is_hub: Whether the source is a hub id.
    """

    name: str
    source: str
    gguf_file: str | None = None
    is_hub: bool = False


def locate(name: str) -> Location:
    """Find out what a name means.

    ``demo`` is the bundled model (``./demo`` is a folder of that name). Otherwise a folder or file that exists wins
    over a hub id, as it does in transformers: where the current directory holds ``owner/model``, that is loaded.

    Raises:
        ModelError: A path that does not exist, or a folder that holds no model.
    """
    if name == DEMO:
        return Location(name, str(DEMO_MODEL_FOLDER))
    path = expanded(name)
    if os.path.isdir(path):
        _check_folder(name, path)
        return Location(name, str(path))
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
    is_path = name != DEMO and (os.path.exists(path) or _looks_like_a_path(name))
    return public_name(str(path.resolve())) if is_path else name


def _looks_like_a_path(name: str) -> bool:
    return not _HUB_ID.fullmatch(name) or name.lower().endswith(".gguf")


def _check_folder(name: str, folder: Path) -> None:
    try:
        files = sorted(os.listdir(folder))
    except PermissionError as error:
        raise ModelError(f"The folder {name} cannot be read; check its permissions.") from error
    if "config.json" in files:
        return
    if "adapter_config.json" in files:
        raise ModelError(f"The folder {name} holds only an adapter; merge it into its base model and name the result.")
    packed = [file for file in files if file.lower().endswith(".gguf")]
    advice = f"name the file {folder / packed[0]}" if packed else "name the folder that holds it, or a .gguf file"
    raise ModelError(f"The folder {name} holds no config.json, so it is no transformers model; {advice}.")
