"""Which questions are asked: read from files and from what the datasets library gives, drawn by the seed."""

import json

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Sequence as ListOf
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub.errors import OfflineModeIsEnabled
from tests.unit.checks.small_questions import rows, write_questions

from heretic.checks import questions as module
from heretic.checks.questions import BUNDLED, MMLU_SUBJECTS, load_questions
from heretic.common.errors import ConfigurationError, PromptError
from heretic.config import Settings


@pytest.fixture
def file(tmp_path):
    return write_questions(tmp_path / "questions.jsonl", {"sea": 30, "sky": 8, "sand": 12})


def load(file, **changes):
    return load_questions(Settings(mmlu_dataset=str(file), **changes))


def texts(questions):
    return [question.question for question in questions]


def test_the_first_of_each_category_are_worked_examples_and_never_asked(file):
    found = load(file, mmlu_samples_per_category=1000, mmlu_few_shot=2)
    assert [category.name for category in found.categories] == ["sea", "sky", "sand"]
    for category, count in zip(found.categories, (30, 8, 12), strict=True):
        assert texts(category.examples) == [f"{category.name} {number}?" for number in range(2)]
        assert texts(category.questions) == [f"{category.name} {number}?" for number in range(3, count)]
    assert found.count == 27 + 5 + 9
    assert found.source == str(file)
    assert found.warning == ""


def test_a_question_is_as_it_stands_in_the_file(file):
    question = load(file).categories[1].examples[1]
    assert (question.category, question.question, question.answer) == ("sky", "sky 1?", 1)
    assert question.choices == ("c1a", "c1b", "c1c", "c1d")


def test_the_same_seed_draws_the_same_whatever_else_is_asked(file):
    several = load(file, seed=5, mmlu_samples_per_category=6)
    alone = load(file, seed=5, mmlu_samples_per_category=6, mmlu_categories=["sea"])
    other = load(file, seed=6, mmlu_samples_per_category=6)
    assert several.categories[0] == alone.categories[0]
    assert len(several.categories[0].questions) == 6
    assert len(several.categories[1].questions) == 5
    assert texts(several.categories[0].questions) != texts(other.categories[0].questions)
    assert load(file, mmlu_samples_per_category=6) == load(file, mmlu_samples_per_category=6)


def test_named_categories_come_in_their_order_and_once(file):
    found = load(file, mmlu_categories=["sand", "sea", "sand"])
    assert [category.name for category in found.categories] == ["sand", "sea"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mmlu_categories": ["sae"]}, ConfigurationError, r"names sae, which .* does not have; did you mean sea\?"),
        ({"mmlu_categories": ["xyz"]}, ConfigurationError, r"it has sea, sky, sand\."),
        ({"mmlu_few_shot": 4}, ConfigurationError, r"4 worked examples, but sea of .* has 3; use --mmlu-few-shot 3\."),
    ],
)
def test_what_cannot_be_asked_is_refused(file, changes, error, message):
    with pytest.raises(error, match=message):
        load(file, **changes)


def test_a_category_without_questions_beside_its_examples_is_refused(tmp_path):
    with pytest.raises(PromptError, match=r"sky of .* has no questions beside its worked examples"):
        load(write_questions(tmp_path / "few.jsonl", {"sea": 9, "sky": 3}))


GOOD = rows({"sea": 1})[0]


@pytest.mark.parametrize(
    "row",
    [
        "text",
        {**GOOD, "answer": 4},
        {**GOOD, "answer": -1},
        {**GOOD, "answer": True},
        {**GOOD, "answer": "1"},
        {**GOOD, "choices": ["a", "b", "c"]},
        {**GOOD, "choices": ["a", "b", "c", 4]},
        {**GOOD, "category": None},
        {name: value for name, value in GOOD.items() if name != "question"},
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, row):
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join([json.dumps(GOOD), json.dumps(row)]))
    with pytest.raises(PromptError, match=r"^Entry 2 of .* is no multiple-choice question; give it"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"), [("{", r"Entry 1 of .* is no JSON"), ("\n", "holds no questions; name another")]
)
def test_files_that_hold_no_questions(tmp_path, content, message):
    path = tmp_path / "questions.jsonl"
    path.write_text(content)
    with pytest.raises(PromptError, match=message):
        load(path)


def test_a_missing_file_and_an_unknown_bundled_set_are_refused(tmp_path):
    with pytest.raises(PromptError, match="cannot be read"):
        load(tmp_path / "missing.jsonl")
    with pytest.raises(PromptError, match=f"use --mmlu-dataset {BUNDLED}"):
        load("bundled:refusal/target")


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    (tmp_path / "capability").mkdir()
    write_questions(tmp_path / "capability" / "multiple_choice.jsonl", {"moon": 6})
    monkeypatch.setattr(module, "BUNDLED_FOLDER", tmp_path)


FEATURES = Features(
    {
        "question": Value("string"),
        "subject": Value("string"),
        "choices": ListOf(Value("string")),
        "answer": ClassLabel(names=list("ABCD")),
    }
)


def as_table(questions):
    own = [{name: row["category" if name == "subject" else name] for name in FEATURES} for row in questions]
    return Dataset.from_list(own, features=FEATURES)


@pytest.fixture
def hub(monkeypatch):
    """A hub with the subjects of MMLU: 5 worked examples and 9 questions, one of which is an example as well."""
    asked = []

    def load_dataset(name, subject):
        asked.append((name, subject))
        if subject not in MMLU_SUBJECTS:
            raise ValueError(
                f"BuilderConfig '{subject}' not found. Available: ['all', 'philosophy', 'auxiliary_train']"
            )
        questions = rows({subject: 13})
        return DatasetDict({"test": as_table(questions[4:]), "dev": as_table(questions[:5])})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_subjects_of_mmlu_come_from_the_hub(hub):
    found = load("cais/mmlu", mmlu_few_shot=5, mmlu_samples_per_category=50)
    assert hub == [("cais/mmlu", subject) for subject in MMLU_SUBJECTS]
    assert [category.name for category in found.categories] == list(MMLU_SUBJECTS)
    for category in found.categories:
        assert texts(category.examples) == [f"{category.name} {number}?" for number in range(5)]
        assert texts(category.questions) == [f"{category.name} {number}?" for number in range(5, 13)]
        assert [question.answer for question in category.questions] == [number % 4 for number in range(5, 13)]
        assert {question.category for question in category.questions} == {category.name}


def test_named_subjects_of_another_dataset(hub):
    found = load("name/other.v2", mmlu_categories=["philosophy", "miscellaneous"])
    assert hub == [("name/other.v2", "philosophy"), ("name/other.v2", "miscellaneous")]
    assert found.source == "name/other.v2"


def test_an_unknown_subject_is_refused_and_configurations_that_are_none_are_not_offered(hub):
    with pytest.raises(ConfigurationError, match=r"names philosofy, which cais/mmlu .* did you mean philosophy\?"):
        load("cais/mmlu", mmlu_categories=["philosofy"])
    with pytest.raises(ConfigurationError, match=r"it has philosophy\."):
        load("cais/mmlu", mmlu_categories=["zzz"])


def test_a_dataset_built_in_another_way_is_refused(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: DatasetDict({"test": as_table(rows({"x": 5}))}))
    with pytest.raises(PromptError, match="has no split dev for philosophy"):
        load("a/b", mmlu_categories=["philosophy"])
    tables = DatasetDict({split: Dataset.from_list([{"question": "?", "answer": "x"}]) for split in ("dev", "test")})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: tables)
    with pytest.raises(PromptError, match=r"^Row 0 of a/b, philosophy, dev is no multiple-choice question"):
        load("a/b", mmlu_categories=["philosophy"])


def refusing(monkeypatch, error):
    def refuse(*_arguments):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", refuse)


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("offline"), ConnectionError("Couldn't reach the Hub")])
def test_the_bundled_questions_stand_in_for_the_default_where_there_is_no_hub(monkeypatch, bundled, error):
    refusing(monkeypatch, error)
    found = load_questions(Settings())
    assert found.source == BUNDLED
    assert [category.name for category in found.categories] == ["moon"]
    assert f"The hub cannot be reached for cais/mmlu, so the questions of {BUNDLED} stand in" in found.warning


@pytest.mark.parametrize("changes", [{"mmlu_dataset": "a/b"}, {"mmlu_categories": ["philosophy"]}])
def test_what_was_named_is_not_replaced(monkeypatch, bundled, changes):
    refusing(monkeypatch, OfflineModeIsEnabled("offline"))
    with pytest.raises(PromptError, match=rf"the hub cannot be reached; .*--mmlu-dataset {BUNDLED} needs no network"):
        load_questions(Settings(**changes))


def test_another_failure_of_the_default_is_not_hidden(monkeypatch, bundled):
    refusing(monkeypatch, DatasetNotFoundError("Dataset 'x' doesn't exist on the Hub."))
    with pytest.raises(PromptError, match="no such dataset on the hub"):
        load_questions(Settings())


def test_the_bundled_questions_by_name(bundled):
    assert load(BUNDLED).count == 3
