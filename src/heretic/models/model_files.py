"""The files of a model as far as they decide what its loading does: where they are, and which weights they lead to."""

import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heretic.common.errors import ModelError
from heretic.common.file_names import leads_outside
from heretic.common.integrity import read_foreign
from heretic.models.location import Location
from heretic.models.private_api import hub_file
from heretic.models.weight_headers import INDEX, WEIGHTS

PICKLE_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OTHER_PICKLES = ("training_args", "optimizer", "scheduler", "rng_state")
"""Beginnings of the names of pickled files that hold no weights."""
CONFIGURATION = "config.json"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""Files that may hold the weights of an adapter, the pickled one last."""
_TEXTS = (".json", ".jinja", ".txt", ".model", ".py", ".md")
LARGEST_TEXT = 1024**3
"""Bytes of a file that is no weights: ten times a large tokenizer."""
_DEEPEST = 8
"""Tables inside of each other that configurations have."""
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
    """A JSON file's table; an empty one where the file is no such thing, which transformers then puts into words.

    Raises:
        ModelError: It is no ordinary file, or far too large.
    """
    if path is None:
        return {}
    try:
        content = read_foreign(path)
    except OSError:
        return {}
    except ValueError as error:
        raise ModelError(f"{path} cannot be used: {error}; get the model from another source.") from error
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def configurations(location: Location, commit: str | None) -> list[dict[str, Any]]:
    """The config.json of a model, and those that it names for other versions of transformers.

    Raises:
        ModelError: It names one outside of the model's folder.
    """
    tables = [read_json(find_file(location, CONFIGURATION, commit))]
    others = tables[0].get("configuration_files")
    for name in others if isinstance(others, list) else ():
        if isinstance(name, str):
            _check_inside(location, name)
            tables.append(read_json(find_file(location, name, commit)))
    return tables


def check_ordinary(location: Location) -> None:
    """Refuse a folder with a pipe, a device or an endless file, before anything of it is opened.

    Raises:
        ModelError: Names the file.
    """
    if location.is_hub:
        return
    folder = Path(location.source)
    for path in (*folder.iterdir(), *(folder / "additional_chat_templates").glob("*")):
        try:
            status = path.stat()
        except OSError:
            # A link to nothing: whoever needs the file will miss it.
            continue
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise ModelError(f"{path} is no ordinary file but a pipe or a device; move it away.")
        if path.suffix in _TEXTS and status.st_size > LARGEST_TEXT:
            raise ModelError(f"{path} is larger than any file of its kind; get the model from another source.")


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
    for name in weight_files(location, commit, allow_pickle):
        _check_inside(location, name)
        if not name.endswith(".safetensors") and not allow_pickle:
            raise ModelError(
                f"{location.name} leads to weights that are pickled ({name!r}), {_PICKLE_DANGER}; {_PICKLE_ADVICE}."
            )


def check_kernels(location: Location, commit: str | None) -> None:
    """Refuse a configuration that has transformers fetch code of a model's layers from the hub and run it.

    Raises:
        ModelError: Names the repository.
    """
    for configuration in configurations(location, commit):
        for key, value in entries(configuration):
            named = value.values() if isinstance(value, dict) else (value,)
            code = next((text for text in named if isinstance(text, str) and "/" in text), None)
            if key.endswith("_implementation") and code is not None:
                raise ModelError(
                    f"The configuration of {location.name} names code on the hub ({key}: {code!r}); remove {key} from "
                    "it, or read that code, and if you trust it run again with --trust-remote-code."
                )


def has_safetensors(location: Location, commit: str | None) -> bool:
    """Whether transformers finds safetensors, which it prefers to pickled weights."""
    return any(find_file(location, name, commit) is not None for name in (WEIGHTS, INDEX))


def weight_files(location: Location, commit: str | None, allow_pickle: bool = False) -> list[str]:
    """Every file that transformers may open for weights, as the model names them; of indices what these name.

    Raises:
        ModelError: A file that names others is no ordinary one, or lies outside of the model's folder.
    """
    # Of a repository only what is small is looked up here: that downloads it.
    indices = (INDEX, *_PICKLED[1:]) if allow_pickle else (INDEX,)
    names = {WEIGHTS, *(_PICKLED[:1] if allow_pickle else ())}
    names |= {name for name in indices if find_file(location, name, commit) is not None}
    explicit = (table.get("transformers_weights") for table in configurations(location, commit))
    names |= {name for name in explicit if isinstance(name, str)}
    for name in sorted(name for name in names if name.endswith(".index.json")):
        _check_inside(location, name)
        named = read_json(find_file(location, name, commit)).get("weight_map")
        # What an index names is opened as weights, also where it is called an index.
        names.remove(name)
        names |= {shard for shard in named.values() if isinstance(shard, str)} if isinstance(named, dict) else set()
    # transformers adds an adapter that lies beside a model, pickled or not.
    if find_file(location, "adapter_config.json", commit) is not None:
        if location.is_hub:
            # Of a repository it would load the base that this names, of which nothing is checked.
            raise ModelError(f"{location.name} holds an adapter; download it and its base model, and name its folder.")
        safe, pickled = ADAPTER_WEIGHTS
        names |= {adapter for adapter in (safe, pickled) if find_file(location, adapter, commit) is not None}
        if safe in names:
            names.discard(pickled)
    return sorted(names)


def _check_inside(location: Location, name: str) -> None:
    if leads_outside(name):
        raise ModelError(
            f"{location.name} names files outside of its folder ({name!r}); get the model from another source."
        )


def entries(data: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every key of a configuration with its value, those of tables inside as well."""
    for key, value in data.items():
        yield key, value
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from entries(value, depth + 1)


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
