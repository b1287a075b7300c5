"""The files of a model as far as they decide what its loading does: where they are, and which weights they lead to."""

import json
from pathlib import Path
from typing import Any

from heretic.common.errors import ModelError
from heretic.common.file_names import leads_outside
from heretic.models.location import Location
from heretic.models.private_api import hub_file

PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OTHER_PICKLES = ("training_args", "optimizer", "scheduler", "rng_state")
"""Beginnings of the names of pickled files that hold no weights."""
_INDEX = "model.safetensors.index.json"
_PICKLE_DANGER = "and such files can run any code when they are opened"
_PICKLE_ADVICE = "convert the model to safetensors, or, if you trust it, run again with --allow-pickle"


def find_file(location: Location, name: str, commit: str | None) -> Path | None:
    """A file of a model, from the hub's cache or the hub where it comes from there; None where it has no such file."""
    if not location.is_hub:
        path = Path(location.source) / name
        return path if path.is_file() else None
    path_text = hub_file(location.source, name, commit, required=False)
    return None if path_text is None else Path(path_text)


def read_json(path: Path | None) -> dict[str, Any]:
    """A JSON file's table; an empty one where the file is no such thing, which transformers then puts into words."""
    if path is None:
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def check_weights(location: Location, commit: str | None, allow_pickle: bool) -> None:
    """Refuse, before anything is loaded, weights that are pickled or lie outside of the model's folder.

    `use_safetensors` of transformers chooses among file names: what an index, ``transformers_weights`` or an adapter in
    the same folder names is opened all the same, and unpickled where it is not called .safetensors.

    Raises:
        ModelError: The message names the file, and --allow-pickle where that would help.
    """
    if location.gguf_file is not None:
        return
    if not location.is_hub and not allow_pickle:
        _refuse_pickled_folder(location)
    for name in _named_weights(location, commit):
        if leads_outside(name):
            raise ModelError(
                f"{location.name} names weights outside of its folder ({name!r}); get the model from another source."
            )
        if not name.endswith(".safetensors") and not allow_pickle:
            raise ModelError(
                f"{location.name} leads to weights that are pickled ({name!r}), {_PICKLE_DANGER}; {_PICKLE_ADVICE}."
            )


def has_safetensors(location: Location, commit: str | None) -> bool:
    """Whether transformers finds safetensors, which it prefers to pickled weights."""
    return any(find_file(location, name, commit) is not None for name in ("model.safetensors", _INDEX))


def _named_weights(location: Location, commit: str | None) -> list[str]:
    """Weight files that other files of the model name."""
    index = read_json(find_file(location, _INDEX, commit)).get("weight_map")
    names = {name for name in index.values() if isinstance(name, str)} if isinstance(index, dict) else set()
    explicit = read_json(find_file(location, "config.json", commit)).get("transformers_weights")
    if isinstance(explicit, str) and not explicit.endswith(".safetensors.index.json"):
        names.add(explicit)
    # transformers adds an adapter that lies beside a model, pickled or not.
    if find_file(location, "adapter_config.json", commit) is not None:
        safe = find_file(location, "adapter_model.safetensors", commit)
        if safe is None and find_file(location, "adapter_model.bin", commit) is not None:
            names.add("adapter_model.bin")
    return sorted(names)


def _refuse_pickled_folder(location: Location) -> None:
    files = [file.name for file in sorted(Path(location.source).iterdir())]
    pickled = [name for name in files if name.endswith(PICKLE_ENDINGS) and not name.startswith(_OTHER_PICKLES)]
    if not pickled or any(name.endswith(".safetensors") for name in files):
        return
    readable = [name for name in pickled if name.startswith("pytorch_model") and name.endswith(".bin")]
    if readable:
        raise ModelError(
            f"The weights of {location.name} are pickled ({readable[0]}), {_PICKLE_DANGER}; {_PICKLE_ADVICE}."
        )
    raise ModelError(
        f"The weights of {location.name} are pickled ({pickled[0]}), {_PICKLE_DANGER}; convert the model to "
        "safetensors (--allow-pickle would not help: of pickled weights transformers reads only pytorch_model.bin)."
    )
