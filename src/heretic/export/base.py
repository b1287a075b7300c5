"""What a saved folder takes over from its base, so that every program reads it as it reads the base.

transformers writes a model in its own version's words: keys of a published configuration are renamed, moved or dropped,
a tokenizer's other files are left out, and readers that look for them fall back to their defaults without a word. So
configurations are those of the base, in which only what differs in memory is changed, and other files are copied.
Where transformers 5 has other words for what the older ones say, both stand there.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache

from heretic.common.errors import ExportError, UserError, first_line
from heretic.common.file_names import inside
from heretic.common.hub_errors import HTTP
from heretic.export.redact import for_others
from heretic.models.loaded import LoadedModel
from heretic.models.location import Location
from heretic.models.model_files import CONFIGURATION, PICKLE_ENDINGS, find_file, read_json
from heretic.observability.events import Warned, emit
from heretic.observability.hub_client import ask_hub_again, prepare_hub

Table = Mapping[str, Any]

GENERATION = "generation_config.json"
_TEMPLATES = "additional_chat_templates/"
_TOKENIZER_FILES = (
    "tokenizer*",
    "*.model",
    "*.model.v*",
    "*.tiktoken",
    "tekken.json",
    "vocab*",
    "merges*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    f"{_TEMPLATES}*.jinja",
    "*processor_config.json",
)
_NOT_COPIED = (*PICKLE_ENDINGS, ".safetensors", ".gguf", ".py", ".md")
_PLACES = ("_name_or_path", "name_or_path")
"""Keys that may hold a path of the machine that wrote a configuration."""
_OF_THE_WRITER = ("transformers_version", *_PLACES)
_OTHER_NAMES = {"dtype": "torch_dtype", "torch_dtype": "dtype"}
_REASONS = {
    "dtype": "the number format of the saved weights, by either name",
    "torch_dtype": "the number format of the saved weights, by either name",
    "rope_parameters": "the same as rope_theta and rope_scaling, as transformers 5 writes it",
    **dict.fromkeys(
        ("rope_theta", "rope_scaling", "rope_local_base_freq", "partial_rotary_factor"),
        "the same as rope_parameters, as older readers know it",
    ),
    "architectures": "the class of the saved weights",
    "quantization_config": "the saved weights are not quantised",
    "auto_map": "where the model's own code stands",
    "tokenizer_class": "a name that older readers know",
    "extra_special_tokens": "in the form that older readers know",
    "additional_special_tokens": "in the form that older readers know",
    **dict.fromkeys(_PLACES, "a path of another machine"),
}
_EDITED = "the edit needs it"


def file_in(folder: Path, name: str) -> Path | None:
    """A file of a folder; a link that leads to another place on this machine would publish what lies there."""
    path = folder / name
    # A snapshot of the hub's cache consists of links to its repository's blobs.
    root = folder.parents[1] if folder.parent.name == "snapshots" else folder
    if not path.is_file():
        return None
    try:
        return inside(root, path.relative_to(root).as_posix())
    except UserError:
        emit(Warned(f"{path} is a link that leads out of the model's folder, so it is not passed on."))
        return None


def base_files(loaded: LoadedModel) -> dict[str, Path]:
    """Configurations and tokenizer files of the original model, by name; none of a GGUF file, which has them in itself.

    Of a repository all are taken that it has at the commit, also those that loading did not need; where the hub cannot
    be asked, what its cache holds (a Warned event says so).
    """
    if loaded.weights == "gguf":
        return {}
    if loaded.commit is None:
        folder = Path(loaded.source)
        files = {name: file_in(folder, name) for name in _passed_on(_names_in(folder))}
    else:
        location = Location(loaded.name, loaded.source, is_hub=True)
        names = _passed_on(_repository_names(loaded))
        files = {name: find_file(location, name, loaded.commit) for name in names}
    return {name: path for name, path in files.items() if path is not None}


def _passed_on(names: list[str]) -> list[str]:
    def is_passed_on(name: str) -> bool:
        if name.endswith(_NOT_COPIED) or ("/" in name and not name.startswith(_TEMPLATES)):
            return False
        return name in (CONFIGURATION, GENERATION) or any(fnmatchcase(name, pattern) for pattern in _TOKENIZER_FILES)

    return sorted(filter(is_passed_on, names))


def _names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob(f"{_TEMPLATES}*"))]


def _repository_names(loaded: LoadedModel) -> list[str]:
    prepare_hub()
    ask_hub_again()
    try:
        return HfApi().list_repo_files(loaded.source, revision=loaded.commit)
    except (HTTP.HTTPError, OSError, RuntimeError, ValueError) as error:
        cached: Any = try_to_load_from_cache(loaded.source, CONFIGURATION, revision=loaded.commit)
        emit(
            Warned(
                f"The hub cannot be asked which files {loaded.source} has ({first_line(error)}); tokenizer files that "
                "are not in its cache are not passed on."
            )
        )
        return _names_in(Path(cached).parent) if isinstance(cached, str) else []


def write_table(path: Path, table: Table) -> None:
    """Write a configuration.

    Raises:
        OSError: It cannot be written.
    """
    path.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def copy_or_write(files: Mapping[str, Path], folder: Path, name: str, table: Table) -> None:
    """Copy a configuration of the base, byte by byte, where the table still is what it says; else write the table.

    Raises:
        OSError: It cannot be written.
    """
    if read_json(files[name]) == table:
        shutil.copyfile(files[name], folder / name)
    else:
        write_table(folder / name, table)


def inherit_configuration(loaded: LoadedModel, files: Mapping[str, Path], folder: Path) -> None:
    """Make the configurations that transformers has written those of the base, but for what differs in memory.

    Without a base to compare with, what older readers know is added to what transformers wrote.

    Raises:
        ExportError: The base's configuration can no longer be read.
        OSError: A file cannot be written.
    """
    written = read_json(folder / CONFIGURATION)
    base = _described(read_json(files.get(CONFIGURATION)), written)
    if base is None:
        write_table(folder / CONFIGURATION, with_both_forms(written, written))
        return
    config: Any = loaded.model.config
    now = config.to_dict() | {"dtype": written.get("dtype"), "architectures": written.get("architectures")}
    try:
        then = type(config).from_dict(json.loads(json.dumps(base))).to_dict()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"The original model's {CONFIGURATION} cannot be read again ({first_line(error)})."
        ) from error
    table = with_both_forms(portable(changed(base, _plain(then), _plain(now))), _plain(now))
    copy_or_write(files, folder, CONFIGURATION, table)
    if GENERATION in files:
        shutil.copyfile(files[GENERATION], folder / GENERATION)
    else:
        (folder / GENERATION).unlink(missing_ok=True)


def _described(base: Table, written: Table) -> Table | None:
    """What of a base's configuration describes the model that was saved, or None.

    Of a model that reads images the part that answers may have been loaded alone. Where other files stand for other
    versions of transformers, none of them is what all readers see.
    """
    if "configuration_files" in base:
        return None
    candidates = [base, *(value for value in base.values() if isinstance(value, dict))]
    kind = written.get("model_type")
    return next((table for table in candidates if kind is not None and table.get("model_type") == kind), None)


def _plain(table: Table) -> dict[str, Any]:
    """A configuration as JSON values."""

    def text(value: Any) -> Any:
        return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else str(value)

    plain: dict[str, Any] = json.loads(json.dumps(table, default=text))
    return plain


def changed(base: Table, then: Table, now: Table) -> dict[str, Any]:
    """A base's configuration with what differs between two readings of it, each key at its place.

    Args:
        base: As it was published.
        then: The same as transformers reads it.
        now: The configuration of the model that is saved.
    """
    result = dict(base)
    for key in {**then, **now}:
        before, after = then.get(key), now.get(key)
        if before == after or key in _OF_THE_WRITER:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping) and isinstance(base.get(key), Mapping):
            result[key] = changed(base[key], before, after)
            continue
        for name in {key, _OTHER_NAMES.get(key, key)}:
            if key in now and after is not None:
                result[name] = after
            else:
                result.pop(name, None)
    return result


def portable(table: Table) -> dict[str, Any]:
    """A table without the paths of other machines."""
    return {
        key: portable(value) if isinstance(value, Mapping) else for_others(value) if key in _PLACES and value else value
        for key, value in table.items()
    }


def with_both_forms(table: Table, now: Table) -> dict[str, Any]:
    """A configuration in the words of transformers 5 and of older readers, at each level where `now` has either.

    What the table says already stays; older words are only derived where it has no older ones.
    """
    result = dict(table)
    for key, value in now.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and key != "rope_parameters":
            result[key] = with_both_forms(result[key], value)
    is_new = "rope_parameters" in result
    rope = now.get("rope_parameters")
    if isinstance(rope, Mapping) and rope:
        result.setdefault("rope_parameters", rope)
        for key, value in older_rope(result["rope_parameters"]).items() if is_new else ():
            result.setdefault(key, value)
    number_format = result.get("dtype", result.get("torch_dtype"))
    if number_format is not None:
        result |= {"dtype": number_format, "torch_dtype": number_format}
    return result


def older_rope(rope: Table) -> dict[str, Any]:
    """What `rope_parameters` says, in the words of transformers 4 and of those that read like it."""
    if isinstance(rope.get("full_attention"), Mapping):
        local = rope.get("sliding_attention")
        result = older_rope(rope["full_attention"])
        if isinstance(local, Mapping) and "rope_theta" in local:
            result["rope_local_base_freq"] = local["rope_theta"]
        return result
    result = {key: rope[key] for key in ("rope_theta", "partial_rotary_factor") if rope.get(key) is not None}
    scaling = {key: value for key, value in rope.items() if key not in result}
    if scaling.get("rope_type", "default") != "default" or len(scaling) > 1:
        result["rope_scaling"] = scaling
    return result


def differences(base: Table, saved: Table, place: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a saved configuration that the base does not have so, with the reason; nested ones with a dot."""
    for key in {**base, **saved}:
        if key in base and key in saved and base[key] == saved[key]:
            continue
        if isinstance(base.get(key), Mapping) and isinstance(saved.get(key), Mapping):
            yield from differences(base[key], saved[key], f"{place}{key}.")
            continue
        kind = "added" if key not in base else "removed" if key not in saved else "changed"
        yield f"{place}{key}", f"{kind}: {_REASONS.get(key, _EDITED)}"


def differences_from_base(files: Mapping[str, Path], folder: Path) -> dict[str, dict[str, str]]:
    """By configuration file what differs from the base, and why; empty where nothing does."""
    names = [name for name in files if name.endswith("config.json") and (folder / name).is_file()]
    by_name = {name: dict(differences(read_json(files[name]), read_json(folder / name))) for name in names}
    return {name: changes for name, changes in by_name.items() if changes}
