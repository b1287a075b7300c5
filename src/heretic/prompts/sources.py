"""Prompt sets from the bundled packs, local files and folders, and the hub."""

import os
import re
from collections.abc import Iterable
from itertools import islice

from heretic.common.errors import PromptError
from heretic.common.file_names import expanded
from heretic.config import PromptSpecification
from heretic.observability.events import PromptsLoaded, emit
from heretic.prompts.split import Split, parse_split
from heretic.prompts.text_files import BUNDLED_PREFIX, ENDINGS, read_bundled, read_lines
from heretic.prompts.types import Prompt, PromptSet


def load_prompt_set(role: str, specification: PromptSpecification, system_prompt: str | None) -> PromptSet:
    """Read one prompt set; emits PromptsLoaded.

    Args:
        role: The setting's name, for messages.
        specification: Where the prompts are and how they are shaped. Its limit counts prompts that are not blank.
        system_prompt: Used where the specification names none; an empty text means none.

    Raises:
        PromptError: The set cannot be read or is empty; the message names the columns or splits that exist.
    """
    try:
        texts = _read(specification)
    except PromptError as error:
        raise PromptError(f"{role}: {error}") from error
    system = system_prompt if specification.system_prompt is None else specification.system_prompt
    prompts = tuple(Prompt(f"{specification.prefix}{text}{specification.suffix}", system or None) for text in texts)
    emit(PromptsLoaded(role, specification.dataset, len(prompts)))
    return PromptSet(role, prompts)


def overlap(training: PromptSet, evaluation: PromptSet) -> list[str]:
    """User texts of evaluation prompts that also stand in the training set; case and spacing do not count."""
    training_texts = {_plain(prompt.user) for prompt in training.prompts}
    return [prompt.user for prompt in evaluation.prompts if _plain(prompt.user) in training_texts]


def is_missing(name: str) -> bool:
    """Whether a name is a path to where nothing is; bundled sets and those of a hub are found out by reading them."""
    return _looks_like_a_path(name) and not name.startswith(BUNDLED_PREFIX) and not os.path.exists(expanded(name))


def is_local(name: str) -> bool:
    """Whether a data set is on this machine, or would have to be: a bundled one, a path, or whatever is there."""
    if name.startswith(BUNDLED_PREFIX) or _looks_like_a_path(name):
        return True
    return os.path.exists(expanded(name))


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().casefold()


def _read(specification: PromptSpecification) -> list[str]:
    split = parse_split(specification.split)
    stripped = (text.strip() for text in _texts(specification, split))
    texts = list(islice((text for text in stripped if text), specification.limit))
    if not texts:
        where = f" in the split {specification.split}" if specification.split else ""
        raise PromptError(f"{specification.dataset} holds no prompts{where}; name a file or split that does.")
    return texts


def _texts(specification: PromptSpecification, split: Split) -> Iterable[str]:
    name = specification.dataset
    if name.startswith(BUNDLED_PREFIX):
        return _sliced(read_bundled(name, split.name), split)
    path = expanded(name)
    if os.path.isfile(path) and path.suffix.lower() in ("", ".txt"):
        if split.name not in ("", "train"):
            raise PromptError(f"{name} has no split {split.name}; a text file has only train: leave 'split' out.")
        return _sliced(read_lines(path), split)
    if not os.path.exists(path) and _looks_like_a_path(name):
        raise PromptError(f"there is no file or folder {name}; check the path.")
    # The datasets library takes a second to import, and bundled sets and text files do without it.
    from heretic.prompts.tables import read_table

    return read_table(specification, split)


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or name.lower().endswith(ENDINGS) or name.count("/") > 1


def _sliced(lines: list[str], split: Split) -> list[str]:
    low, high = split.bounds(len(lines))
    return lines[low:high]
