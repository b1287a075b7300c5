"""Prompt sets from the bundled packs, local files and folders, and the hub."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from heretic.errors import PromptError
from heretic.observability.events import PromptsLoaded, emit
from heretic.prompts.split import Split, parse_split
from heretic.prompts.types import Prompt, PromptSet

BUNDLED_FOLDER = Path(__file__).parent / "behaviors"
BUNDLED_PREFIX = "bundled:"
OFFLINE_HINT = "bundled:refusal/target and bundled:refusal/baseline need no network"
TEXT_COLUMNS = ("text", "prompt", "instruction", "question", "user", "messages")
"""Columns that are taken where none is named, in this order."""
FILE_FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}


class Specification(Protocol):
    """What describes a set; see config.sections.PromptSpecification."""

    @property
    def dataset(self) -> str: ...  # noqa: D102
    @property
    def config(self) -> str | None: ...  # noqa: D102
    @property
    def revision(self) -> str | None: ...  # noqa: D102
    @property
    def split(self) -> str | None: ...  # noqa: D102
    @property
    def column(self) -> str | None: ...  # noqa: D102
    @property
    def prefix(self) -> str: ...  # noqa: D102
    @property
    def suffix(self) -> str: ...  # noqa: D102
    @property
    def system_prompt(self) -> str | None: ...  # noqa: D102
    @property
    def streaming(self) -> bool: ...  # noqa: D102
    @property
    def limit(self) -> int | None: ...  # noqa: D102


def load_prompt_set(role: str, specification: Specification, system_prompt: str | None) -> PromptSet:
    """Read one prompt set; emits PromptsLoaded.

    Args:
        role: The setting's name, for messages.
        specification: Where the prompts are and how they are shaped.
        system_prompt: Used where the specification names none; an empty text means none.

    Raises:
        PromptError: The set cannot be read or is empty; the message names the columns or splits that exist.
    """
    split = parse_split(specification.split)
    texts = [text.strip() for text in islice(_texts(role, specification, split), specification.limit)]
    texts = [text for text in texts if text]
    if not texts:
        raise PromptError(
            f"{role}: {specification.dataset} holds no prompts in the split {specification.split or '(all)'}; name a "
            "file or split that does."
        )
    system = system_prompt if specification.system_prompt is None else specification.system_prompt
    prompts = tuple(
        Prompt(f"{specification.prefix}{text}{specification.suffix}", system or None) for text in texts
    )
    emit(PromptsLoaded(role, specification.dataset, len(prompts)))
    return PromptSet(role, prompts)


def overlap(training: PromptSet, evaluation: PromptSet) -> list[str]:
    """User texts of evaluation prompts that also stand in the training set; case and spacing do not count."""
    known = {_plain(prompt.user) for prompt in training.prompts}
    return [prompt.user for prompt in evaluation.prompts if _plain(prompt.user) in known]


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()


def _texts(role: str, specification: Specification, split: Split) -> Iterable[str]:
    name = specification.dataset
    path = Path(name).expanduser()
    if name.startswith(BUNDLED_PREFIX):
        return _sliced(_bundled_lines(role, name, split.name), split)
    if path.is_file() and path.suffix in ("", ".txt"):
        return _sliced(_lines(role, path), split)
    if path.exists():
        return _column_texts(role, specification, _sliced(_local_rows(role, specification, path, split), split))
    if path.suffix in (".txt", *FILE_FORMATS) or name.startswith((".", "/", "~")):
        raise PromptError(f"{role}: there is no file or folder {name}; check the path.")
    return _column_texts(role, specification, _hub_rows(role, specification, split))


def _sliced(rows: Sequence[Any], split: Split) -> Sequence[Any]:
    low, high = split.bounds(len(rows))
    if hasattr(rows, "select"):
        selected: Sequence[Any] = rows.select(range(low, high))
        return selected
    return rows[low:high]


def _lines(role: str, path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{role}: {path} is no UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise PromptError(f"{role}: {path} cannot be read ({error.strerror}); check its permissions.") from error
    return [line for line in text.splitlines() if line.strip()]


def _bundled_lines(role: str, name: str, split: str) -> list[str]:
    packs = {
        folder.relative_to(BUNDLED_FOLDER).as_posix(): folder
        for folder in sorted(BUNDLED_FOLDER.glob("*/*"))
        if folder.is_dir()
    }
    # A look-up instead of a path: nothing outside the folder can be named.
    folder = packs.get(name.removeprefix(BUNDLED_PREFIX))
    if folder is None:
        known = ", ".join(f"{BUNDLED_PREFIX}{pack}" for pack in packs)
        raise PromptError(f"{role}: there is no bundled set {name}; choose one of {known}.")
    files = {file.stem: file for file in sorted(folder.glob("*.txt"))}
    file = files.get(split or "train")
    if file is None:
        raise PromptError(f"{role}: {name} has no split {split}; it has {', '.join(files)}.")
    return _lines(role, file)


def _local_rows(role: str, specification: Specification, path: Path, split: Split) -> Sequence[Any]:
    import datasets

    try:
        if path.is_dir() and ((path / "state.json").exists() or (path / "dataset_dict.json").exists()):
            stored: Any = datasets.load_from_disk(str(path))
        elif path.is_dir():
            stored = datasets.load_dataset(str(path), specification.config)
        elif path.suffix in FILE_FORMATS:
            stored = datasets.load_dataset(FILE_FORMATS[path.suffix], data_files={"train": str(path)})
        else:
            raise PromptError(f"{role}: {path} has an unknown ending; use .txt, .jsonl, .json, .csv or .parquet.")
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise PromptError(f"{role}: {path} cannot be read: {_cause(error)}; check the file.") from error
    return _chosen_split(role, str(path), stored, split.name)


def _chosen_split(role: str, name: str, stored: Any, split: str) -> Sequence[Any]:
    if not isinstance(stored, Mapping):
        rows: Sequence[Any] = stored
        return rows
    if not split and len(stored) == 1:
        split = next(iter(stored))
    if (split or "train") not in stored:
        raise PromptError(
            f"{role}: {name} has no split {split or 'train'}; it has {', '.join(stored)} (set {role}.split)."
        )
    chosen: Sequence[Any] = stored[split or "train"]
    return chosen


def _hub_rows(role: str, specification: Specification, split: Split) -> Iterable[Any]:
    import datasets

    name = specification.dataset
    where: dict[str, Any] = {"revision": specification.revision}
    try:
        if not specification.streaming:
            stored = datasets.load_dataset(name, specification.config, **where)
            return _sliced(_chosen_split(role, name, stored, split.name), split)
        stream = datasets.load_dataset(name, specification.config, streaming=True, **where)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise PromptError(f"{role}: {_hub_problem(name, error)}") from error
    if any((bound or "").startswith("-") or (bound or "").endswith("%") for bound in (split.low, split.high)):
        raise PromptError(f"{role}: a streamed set has no known length; give the split as rows, e.g. train[:400].")
    rows = _chosen_split(role, name, stream, split.name)
    return islice(rows, int(split.low or 0), None if split.high is None else int(split.high))


def _hub_problem(name: str, error: Exception) -> str:
    text = _cause(error)
    lower = f"{type(error).__name__} {error}".lower()
    if "gated" in lower or "401" in lower or "403" in lower:
        return f"{name} is private or gated; accept its conditions on its page and run 'hf auth login' or set HF_TOKEN."
    if "config name is missing" in lower or "builderconfig" in lower:
        return f"{name} needs another configuration: {text}; set the prompt set's config."
    if "connect" in lower or "offline" in lower or "resolution" in lower or "reach" in lower:
        return f"{name} cannot be read because the hub cannot be reached; check the network ({OFFLINE_HINT})."
    if "notfound" in lower or "doesn't exist" in lower:
        return f"there is no dataset {name} on the hub, or it is private; check the name ({OFFLINE_HINT})."
    return f"{name} cannot be read: {text}; check its name, config and revision ({OFFLINE_HINT})."


def _cause(error: BaseException) -> str:
    """The innermost message: wrappers only say that something went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _column_texts(role: str, specification: Specification, rows: Iterable[Any]) -> Iterable[str]:
    column = specification.column
    for row in rows:
        if column is None:
            column = _default_column(role, specification.dataset, row)
        if column not in row:
            raise PromptError(
                f"{role}: {specification.dataset} has no column {column}; it has {', '.join(row)} (set {role}.column)."
            )
        yield _user_text(row[column])


def _default_column(role: str, name: str, row: Mapping[str, Any]) -> str:
    texts = [column for column, value in row.items() if isinstance(value, str)]
    for column in TEXT_COLUMNS:
        if column in row:
            return column
    if len(texts) == 1:
        return texts[0]
    raise PromptError(f"{role}: {name} has the columns {', '.join(row)}; say which one holds the text with {role}.column.")


def _user_text(value: Any) -> str:
    """A text cell, or the first user message of a chat."""
    if isinstance(value, list):
        return next((str(turn.get("content", "")) for turn in value if turn.get("role") == "user"), "")
    return "" if value is None else str(value)
