"""Multiple-choice questions: the bundled set, a file like it, or MMLU on the hub; and which of them a run asks."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heretic.common.errors import ConfigurationError, PromptError, causes, did_you_mean
from heretic.common.hub_errors import OUT_OF_REACH, hub_failure
from heretic.config import Settings
from heretic.prompts.text_files import BUNDLED_FOLDER, BUNDLED_PREFIX, read_lines

LETTERS = "ABCD"
"""What the choices of a question are called."""
BUNDLED_NAME = "capability/multiple_choice"
BUNDLED = f"{BUNDLED_PREFIX}{BUNDLED_NAME}"
EXAMPLES_IN_FILES = 3
"""So many questions at the head of each category of a file are worked examples, and never asked."""
MMLU_SUBJECTS = (
    "clinical_knowledge",
    "high_school_biology",
    "high_school_chemistry",
    "high_school_computer_science",
    "high_school_geography",
    "high_school_macroeconomics",
    "high_school_mathematics",
    "high_school_physics",
    "high_school_psychology",
    "international_law",
    "miscellaneous",
    "philosophy",
)
"""The subjects of MMLU that are asked where none are named: of every field, and none with long texts to read."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with one right choice.

    Attributes:
        category: What it is about.
        question: Its text.
        choices: One for each of LETTERS.
        answer: Index of the right choice.
    """

    category: str
    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class Category:
    """The questions of one category: worked examples, and those that may be asked."""

    name: str
    examples: tuple[Question, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """What a run asks.

    Attributes:
        source: The dataset, file, or bundled set.
        categories: Each with as many worked examples and questions as the settings want, or has.
        warning: What the user should know of the source, or empty.
    """

    source: str
    categories: tuple[Category, ...]
    warning: str = ""

    @property
    def count(self) -> int:
        """Number of questions that are asked."""
        return sum(len(category.questions) for category in self.categories)


def load_questions(settings: Settings) -> QuestionSet:
    """The questions that the settings ask for, the same in every run with the same seed.

    Where the hub cannot be reached for the default dataset and no categories are named, the bundled questions stand in.

    Raises:
        PromptError: The questions cannot be read, or are none.
        ConfigurationError: A category is unknown, or has fewer worked examples than are asked for.
    """
    source, warning = settings.mmlu_dataset, ""
    try:
        categories = _read(source, settings.mmlu_categories)
    except PromptError as error:
        if not _may_stand_in(settings, error):
            raise
        warning = (
            f"The hub cannot be reached for {source}, so the questions of {BUNDLED} stand in; name them with "
            "--mmlu-dataset to ask them always."
        )
        source, categories = BUNDLED, read_file(bundled_file(BUNDLED), BUNDLED)
    return QuestionSet(source, tuple(_drawn(category, settings, source) for category in categories), warning)


def _may_stand_in(settings: Settings, error: PromptError) -> bool:
    failure = hub_failure(causes(error))
    default = settings.mmlu_dataset == type(settings).model_fields["mmlu_dataset"].default
    unreachable = failure is not None and failure[0] in OUT_OF_REACH
    return unreachable and default and not settings.mmlu_categories


def _read(source: str, wanted: Sequence[str]) -> tuple[Category, ...]:
    if source.startswith(BUNDLED_PREFIX):
        return _chosen(read_file(bundled_file(source), source), wanted, source)
    path = Path(source).expanduser()
    if path.is_file() or path.suffix in (".jsonl", ".json"):
        return _chosen(read_file(path, source), wanted, source)
    # The datasets library takes a second to import, and files do without it.
    from heretic.checks.hub_questions import read_hub

    return read_hub(source, tuple(dict.fromkeys(wanted)) or MMLU_SUBJECTS)


def bundled_file(source: str) -> Path:
    """The file of the bundled set.

    Raises:
        PromptError: There is none of that name.
    """
    if source != BUNDLED:
        raise PromptError(f"There are no bundled questions {source}; use --mmlu-dataset {BUNDLED}.")
    return BUNDLED_FOLDER / f"{BUNDLED_NAME}.jsonl"


def read_file(path: Path, source: str) -> tuple[Category, ...]:
    """All categories of a file with one JSON object a line, in their order there.

    Raises:
        PromptError: The file cannot be read, or a line is no question.
    """
    questions: dict[str, list[Question]] = {}
    for number, line in enumerate(read_lines(path), 1):
        where = f"Entry {number} of {source}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise PromptError(f"{where} is no JSON ({error}); write one object a line.") from error
        question = parse_question(row, where)
        questions.setdefault(question.category, []).append(question)
    if not questions:
        raise PromptError(f"{source} holds no questions; name another --mmlu-dataset.")
    return tuple(
        category_of(name, rows[:EXAMPLES_IN_FILES], rows[EXAMPLES_IN_FILES:]) for name, rows in questions.items()
    )


def category_of(name: str, examples: Sequence[Question], rest: Sequence[Question]) -> Category:
    """A category; what is a worked example is not asked, even where a dataset holds it twice."""
    shown = {(example.question, example.choices) for example in examples}
    return Category(
        name,
        tuple(examples),
        tuple(question for question in rest if (question.question, question.choices) not in shown),
    )


def parse_question(row: Any, where: str, category: str | None = None) -> Question:
    """A question from an object of JSON or a row of a table.

    Args:
        row: With question, choices and answer, and its category unless that is given.
        where: Begins the message about a row that is none.
        category: Its category, where the row need not name it.

    Raises:
        PromptError: It is no question with four choices of which one is right.
    """
    values = row if isinstance(row, Mapping) else {}
    name, text = category or values.get("category"), values.get("question")
    choices, answer = values.get("choices"), values.get("answer")
    if (
        isinstance(name, str)
        and isinstance(text, str)
        and isinstance(choices, list)
        and [type(choice) for choice in choices] == [str] * len(LETTERS)
        and type(answer) is int
        and 0 <= answer < len(LETTERS)
    ):
        return Question(name, text.strip(), tuple(choice.strip() for choice in choices), answer)
    raise PromptError(
        f"{where} is no multiple-choice question; give it a category, a question, {len(LETTERS)} choices, and as "
        f"answer the right one's index, 0 to {len(LETTERS) - 1}."
    )


def unknown_category(name: str, source: str, categories: Sequence[str]) -> ConfigurationError:
    """The error for a category that its source does not have."""
    hint = did_you_mean(name, categories) or f"it has {', '.join(categories)}."
    return ConfigurationError(f"mmlu_categories names {name}, which {source} does not have; {hint}")


def _chosen(categories: Sequence[Category], wanted: Sequence[str], source: str) -> tuple[Category, ...]:
    """The wanted categories in that order, or all."""
    named = {category.name: category for category in categories}
    for name in wanted:
        if name not in named:
            raise unknown_category(name, source, list(named))
    return tuple(named[name] for name in dict.fromkeys(wanted)) or tuple(categories)


def _drawn(category: Category, settings: Settings, source: str) -> Category:
    """As many examples and questions of a category as the settings want; questions stay in their order."""
    if settings.mmlu_few_shot > len(category.examples):
        raise ConfigurationError(
            f"mmlu_few_shot asks for {settings.mmlu_few_shot} worked examples, but {category.name} of {source} has "
            f"{len(category.examples)}; use --mmlu-few-shot {len(category.examples)}."
        )
    if not category.questions:
        raise PromptError(
            f"{category.name} of {source} has no questions beside its worked examples; leave it out of "
            "--mmlu-categories or add some."
        )
    # Each category has its own generator, so that adding one does not change what is drawn from the others.
    generator = random.Random(f"{settings.seed or 0} {category.name}")
    count = min(settings.mmlu_samples_per_category, len(category.questions))
    drawn = sorted(generator.sample(range(len(category.questions)), count))
    return Category(
        category.name,
        category.examples[: settings.mmlu_few_shot],
        tuple(category.questions[index] for index in drawn),
    )
