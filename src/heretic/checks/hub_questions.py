"""Questions of MMLU, and of datasets built like it, on the hub: a configuration a subject, worked examples in dev."""

from collections.abc import Sequence
from typing import Any

import datasets

from heretic.checks.questions import BUNDLED, Category, category_of, parse_question, unknown_category
from heretic.common.errors import PromptError
from heretic.observability.hub_client import prepare_hub
from heretic.prompts.tables import READING_ERRORS, hub_problem, named_configurations

QUESTIONS_SPLIT = "test"
EXAMPLES_SPLIT = "dev"

_OFFLINE_HINT = f"--mmlu-dataset {BUNDLED} needs no network"
_NOT_SUBJECTS = ("all", "auxiliary_train")
"""Configurations of MMLU that are no subject."""


def read_hub(name: str, subjects: Sequence[str]) -> tuple[Category, ...]:
    """Every subject with its worked examples and all its questions.

    Raises:
        PromptError: The dataset cannot be read or is built in another way.
        ConfigurationError: It has no such subject.
    """
    datasets.disable_progress_bars()
    prepare_hub()
    return tuple(_read_subject(name, subject) for subject in subjects)


def _read_subject(name: str, subject: str) -> Category:
    try:
        stored: Any = datasets.load_dataset(name, subject)
        tables = {split: list(stored[split]) for split in (EXAMPLES_SPLIT, QUESTIONS_SPLIT) if split in stored}
    except READING_ERRORS as error:
        subjects = [
            configuration for configuration in named_configurations(error) if configuration not in _NOT_SUBJECTS
        ]
        if subjects:
            raise unknown_category(subject, name, subjects) from error
        raise PromptError(f"mmlu_dataset: {hub_problem(name, error, _OFFLINE_HINT)}.") from error
    for split in (EXAMPLES_SPLIT, QUESTIONS_SPLIT):
        if split not in tables:
            raise PromptError(
                f"{name} has no split {split} for {subject}; name a --mmlu-dataset that is built like cais/mmlu."
            )
    examples, rest = (
        [parse_question(row, f"Row {number} of {name}, {subject}, {split}", subject) for number, row in enumerate(rows)]
        for split, rows in tables.items()
    )
    return category_of(subject, examples, rest)
