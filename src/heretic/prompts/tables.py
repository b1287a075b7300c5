"""Prompts in tables: local files and folders of the datasets library, and datasets on the hub."""

import glob
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
from datasets.exceptions import DatasetNotFoundError, DatasetsError

from heretic.common.errors import PromptError, causes, first_line
from heretic.common.file_names import expanded
from heretic.common.hub_errors import HTTP, LOG_IN, HubFailure, connection_problem, hub_failure
from heretic.config import PromptSpecification
from heretic.observability.hub_client import prepare_hub
from heretic.prompts.columns import choose_column, user_text
from heretic.prompts.split import Split

FILE_FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
OFFLINE_HINT = "bundled:refusal/target and bundled:refusal/baseline need no network"

_STORED = ("state.json", "dataset_dict.json")
READING_ERRORS = (OSError, ValueError, TypeError, NotImplementedError, RecursionError, DatasetsError, HTTP.HTTPError)
"""What the datasets library raises for reasons that are not Heretic's."""


def read_table(specification: PromptSpecification, split: Split) -> Iterator[str]:
    """Texts of a local file or folder where there is one of that name, else of a hub dataset.

    Raises:
        PromptError: It cannot be read; also while iterating, because rows are read as they are needed.
    """
    datasets.disable_progress_bars()
    prepare_hub()
    path = expanded(specification.dataset)
    with _explained(specification, path), _literal(path) as (literal, cache):
        stored = _open_local(specification, literal, cache) if os.path.exists(path) else _open_hub(specification)
        table = _choose_split(specification.dataset, stored, split.name)
        yield from _texts(specification, table, split)


@contextmanager
def _literal(path: Path) -> Iterator[tuple[Path, str | None]]:
    """A path to the same files that the datasets library takes for no pattern, and a folder for what it makes of them.

    It takes every path for one, and a folder's cannot be escaped. Where that would matter, links to the files stand in
    a temporary folder, and so does what is made of them: under another path it would never be found again.
    """
    absolute = str(path.resolve())
    if not os.path.exists(path) or not (glob.has_magic(absolute) or "::" in absolute):
        yield path, None
        return
    with TemporaryDirectory(prefix="heretic-prompts-") as temporary:
        mirror = Path(temporary, "data" if path.is_dir() else f"data{path.suffix}")
        if path.is_dir():
            for folder, _, names in os.walk(absolute):
                place = mirror / Path(folder).relative_to(absolute)
                place.mkdir()
                for name in names:
                    (place / name).symlink_to(Path(folder, name))
        else:
            mirror.symlink_to(absolute)
        yield mirror, str(Path(temporary, "cache"))


def _open_local(specification: PromptSpecification, path: Path, cache: str | None) -> Any:
    options: dict[str, Any] = {"streaming": specification.streaming, "cache_dir": cache}
    if path.is_dir():
        if any((path / name).exists() for name in _STORED):
            return _load_from_disk(path)
        return datasets.load_dataset(str(path), specification.config, **options)
    builder = FILE_FORMATS.get(path.suffix.lower())
    if builder is None:
        raise PromptError(f"{path} has an unknown ending; use .txt, .jsonl, .json, .csv or .parquet.")
    try:
        return datasets.load_dataset(builder, data_files={"train": str(path)}, **options)
    except StopIteration as error:
        # What the datasets library raises for a JSON file without anything in it.
        raise PromptError(f"{path} holds no prompts; name a file that does.") from error


def _load_from_disk(path: Path) -> Any:
    try:
        return datasets.load_from_disk(str(path))
    except IndexError as error:
        # What the datasets library raises where a table has no rows, and so no file.
        raise PromptError(f"{path} holds no prompts, or its files are missing; name a set that does.") from error


def _open_hub(specification: PromptSpecification) -> Any:
    return datasets.load_dataset(
        specification.dataset,
        specification.config,
        revision=specification.revision,
        streaming=specification.streaming,
    )


def _choose_split(name: str, stored: Any, split: str) -> Any:
    if not isinstance(stored, Mapping):
        stored_split = str(stored.split or "train")
        if split not in ("", "train", stored_split):
            raise PromptError(f"{name} has no split {split}; it has {stored_split}: set 'split' to it.")
        return stored
    if not split and len(stored) == 1:
        return next(iter(stored.values()))
    if (split or "train") not in stored:
        missing = f"has no split {split}" if split else "has several splits"
        raise PromptError(f"{name} {missing}; it has {', '.join(stored)}: set 'split' to one of them.")
    return stored[split or "train"]


def _texts(specification: PromptSpecification, table: Any, split: Split) -> Iterator[str]:
    name = specification.dataset
    if specification.column is not None and specification.column in (table.column_names or ()):
        # Other columns may hold images or sounds, which would be decoded.
        table = table.select_columns([specification.column])
    rows = _sliced(table, split)
    first = next(rows, None)
    if first is None:
        return
    examples = dict(first)
    kinds = table.features or {}
    # A text column whose first cell is empty is a text column still.
    texts = [key for key, kind in kinds.items() if getattr(kind, "dtype", None) in ("string", "large_string")]
    column = choose_column(name, examples | dict.fromkeys(texts, ""), specification.column)
    for row in chain([first], rows):
        yield user_text(row[column])


def _sliced(table: Any, split: Split) -> Iterator[Mapping[str, Any]]:
    if isinstance(table, datasets.Dataset):
        low, high = split.bounds(len(table))
        return iter(table.select(range(low, high)))
    if split.needs_count:
        raise PromptError("the length of a streamed set is not known; give the split as rows, e.g. train[:400].")
    return islice(table, int(split.low or 0), None if split.high is None else int(split.high))


@contextmanager
def _explained(specification: PromptSpecification, path: Path) -> Iterator[None]:
    """Put what the datasets library raises into words."""
    try:
        yield
    except READING_ERRORS as error:
        name = specification.dataset
        problem = _configuration_problem(specification, error)
        if problem is None:
            local = f"{name} cannot be read ({_detail(error)}); correct the file or name another one"
            problem = local if os.path.exists(path) else hub_problem(name, error)
        raise PromptError(f"{problem}.") from error


def _configuration_problem(specification: PromptSpecification, error: Exception) -> str | None:
    names = named_configurations(error)
    if not names:
        return None
    which = "several configurations" if specification.config is None else f"no configuration {specification.config}"
    return f"{specification.dataset} has {which}; it has {', '.join(names)}: set 'config' to one of them"


def named_configurations(error: BaseException) -> list[str]:
    """The configurations of a dataset, which the datasets library names where another one was asked for, or none."""
    match = re.search(r"(?:available configs|Available):\s*\[(.*?)\]", str(error))
    return [] if match is None else [name.strip() for name in match[1].replace("'", "").split(",")]


def hub_problem(name: str, error: BaseException, offline_hint: str = OFFLINE_HINT) -> str:
    """Why a hub dataset cannot be read, and what to do, without the full stop.

    Args:
        name: The dataset.
        error: What the datasets library raised; it keeps the cause of some failures only in its words.
        offline_hint: What can be read without a network instead.
    """
    failed = hub_failure(causes(error))
    failure = None if failed is None else failed[0]
    text = str(error)
    connection = None if failed is None else connection_problem(*failed, name)
    if connection is not None:
        return f"{connection} ({offline_hint})"
    if failure is HubFailure.GATED or "gated dataset" in text:
        return (
            f"{name} is gated: accept its conditions on its page (https://huggingface.co/datasets/{name}), then "
            f"{LOG_IN} ({offline_hint})"
        )
    if failure is HubFailure.NO_REVISION or text.startswith("Revision "):
        return f"{name} has no such branch, tag or commit on the hub; check 'revision'"
    if failure is HubFailure.DENIED:
        return f"the hub refuses access to {name}; {LOG_IN} ({offline_hint})"
    if failure is HubFailure.NO_REPOSITORY or isinstance(error, DatasetNotFoundError):
        return (
            f"there is no file or folder {name} here and no such dataset on the hub, or it is private; check the name, "
            f"or {LOG_IN} ({offline_hint})"
        )
    if failure is HubFailure.UNREACHABLE:
        return (
            f"there is no file or folder {name} here, and the hub cannot be reached; check the name or the network "
            f"({offline_hint})"
        )
    return f"{name} cannot be read ({_detail(error)}); check its name, 'config' and 'revision' ({offline_hint})"


def _detail(error: BaseException) -> str:
    """The innermost message: wrappers only say that something went wrong."""
    return first_line(causes(error)[-1])
