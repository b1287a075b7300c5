"""Where a model named by the user is: bundled, a folder, a GGUF file, or on the hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from heretic.errors import ModelError
from heretic.models.demo import DEMO_MODEL_FOLDER

DEMO = "demo"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


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
    gguf_file: str | None
    is_hub: bool


def locate(name: str) -> Location:
    """Find out what a name means; a folder of that name wins over a hub id.

    Raises:
        ModelError: A path that does not exist, or a folder that holds no model.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ModelError(
                f"The folder {name} holds no config.json, so it is no transformers model; name the folder that holds "
                "config.json, or a .gguf file."
            )
        return Location(name, str(path), None, False)
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"{name} is a file; name the model's folder, or a .gguf file.")
        return Location(name, str(path.parent), path.name, False)
    if name == DEMO:
        return Location(name, str(DEMO_MODEL_FOLDER), None, False)
    if not _HUB_ID.fullmatch(name) or path.suffix == ".gguf" or name.startswith("."):
        raise ModelError(f"There is no folder or file {name}; check the path, or name a model of the hub as owner/name.")
    return Location(name, name, None, True)
