"""Markers and a classifier together, and what a run does where the classifier cannot be had."""

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from tests.unit.evaluation.pico_classifiers import PLAIN, FunctionClassifier, save_classifier
from tests.unit.models.hub_error import hub_error
from tests.unit.passes.pico_runner import PROMPT_SET, PROMPTS

from heretic.common.errors import ConfigurationError, ModelError
from heretic.config import Settings
from heretic.evaluation import refusal_classifier
from heretic.evaluation.evaluator import EvaluatorOptions, Reader
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.evaluation.readers.classifier import classifier_for
from heretic.observability.events import Event, ResponseMeasured, Warned, subscribed
from heretic.results.score import AnswerDetails

REFUSAL = "I'm sorry, but I can't help with that."
ANSWERS = dict(
    zip(
        [prompt.user for prompt in PROMPTS],
        (REFUSAL, "The sea is no topic of mine.", "", "It is 4.", "Ask somebody else."),
        strict=True,
    )
)
"""A marker's refusal, two that only a reader finds, one that says nothing, and an answer."""


def somebody_reads(_request: str, response: str) -> float:
    return {"The sea is no topic of mine.": 0.9, "Ask somebody else.": 0.6, "It is 4.": 0.2}[response]


def evaluator_with(classifier: FunctionClassifier, **changes: Any) -> MarkerEvaluator:
    settings = Settings(use_neural_refusal_detection=True, **changes)
    options = EvaluatorOptions(settings, readers={"classifier": classifier})
    return MarkerEvaluator(PROMPT_SET, list(ANSWERS.values()), options)


@pytest.mark.parametrize(("threshold", "count"), [(0.1, 5), (0.2, 5), (0.3, 4), (0.6, 4), (0.7, 3), (0.9, 3), (1.0, 2)])
def test_markers_count_and_the_classifier_decides_the_rest(threshold: float, count: int) -> None:
    classifier = FunctionClassifier(somebody_reads)
    seen: list[Event] = []
    with subscribed(seen.append):
        evaluator = evaluator_with(classifier, neural_detection_threshold=threshold)
    assert (evaluator.baseline.value, evaluator.baseline.n) == (count, len(PROMPTS))
    assert sum(event.verdict == "refused" for event in seen if isinstance(event, ResponseMeasured)) == count
    # Asked once a measurement, all at once, and never about what a marker or silence has settled.
    rest = [(prompt.user, ANSWERS[prompt.user]) for prompt in (PROMPTS[1], PROMPTS[3], PROMPTS[4])]
    assert classifier.asked == [rest]


def test_a_classifier_that_says_no_takes_nothing_back() -> None:
    evaluator = evaluator_with(FunctionClassifier(lambda *_: 0.0))
    assert evaluator.baseline.value == 2


def test_only_a_marker_is_certain_before_all_answers_are_there() -> None:
    evaluator = evaluator_with(FunctionClassifier(somebody_reads))
    assert evaluator.judge(REFUSAL, complete=False) == 1
    assert evaluator.judge(REFUSAL, complete=True) == 1
    assert evaluator.judge("", complete=True) == 1
    assert evaluator.judge("", complete=False) is None
    assert evaluator.judge("It is 4.", complete=False) is None
    assert evaluator.judge("It is 4.", complete=True) is None


def test_the_score_names_the_classifier() -> None:
    score = evaluator_with(FunctionClassifier(somebody_reads, name="some/reader")).baseline
    assert score.details == AnswerDetails(30, "classifier", "some/reader", counted=score.answers.counted)
    assert "{reader}" in score.answers.counted
    assert score.baseline == score.value


@pytest.mark.parametrize("wanted", [False, True])
def test_without_a_classifier_markers_do_alone(wanted: bool) -> None:
    """Whether it could not be loaded, or was loaded for another behaviour only."""
    readers: dict[str, Reader] = {} if wanted else {"classifier": FunctionClassifier(lambda *_: 1.0)}
    options = EvaluatorOptions(Settings(use_neural_refusal_detection=wanted), readers=readers)
    evaluator = MarkerEvaluator(PROMPT_SET, list(ANSWERS.values()), options)
    assert evaluator.baseline.value == 2
    assert (evaluator.baseline.answers.kind, evaluator.judge("It is 4.", complete=True)) == ("", 0)


# What the settings ask for --------------------------------------------------------------------------------------------


def asked_for(name: str, **changes: Any) -> tuple[Any, list[str]]:
    """The classifier, and what was warned of."""
    settings = Settings(
        model="demo", device="cpu", use_neural_refusal_detection=True, neural_detection_model=name, **changes
    )
    seen: list[Event] = []
    with subscribed(seen.append):
        classifier = classifier_for(settings)
    return classifier, [event.message for event in seen if isinstance(event, Warned)]


def without_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked up before the model is loaded would ask the real hub, again and again."""
    for name in ("check_weights", "verify_model"):
        monkeypatch.setattr(refusal_classifier, name, lambda *_arguments, **_keywords: None)


def test_nothing_is_loaded_unless_asked_for() -> None:
    settings = Settings(model="demo", neural_detection_model="./missing")
    assert MarkerEvaluator.wanted_reader(settings) == ""
    asking = settings.model_copy(update={"use_neural_refusal_detection": True})
    assert MarkerEvaluator.wanted_reader(asking) == "classifier"


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_a_folder_is_loaded_with_the_batch_size(tmp_path: Path, device: str) -> None:
    save_classifier(tmp_path, PLAIN)
    classifier, warnings = asked_for(str(tmp_path), neural_detection_batch_size=2, neural_detection_device=device)
    assert warnings == []
    rows: list[int] = []
    classifier._model.register_forward_pre_hook(
        lambda _module, _arguments, keywords: rows.append(len(keywords["input_ids"])), with_kwargs=True
    )
    classifier.probabilities([("a", "b"), ("c", "d"), ("e", "f")])
    assert rows == [2, 1]


def test_what_cannot_be_loaded_leaves_the_markers_and_is_said_in_one_sentence(tmp_path: Path) -> None:
    save_classifier(tmp_path, PLAIN)
    (tmp_path / "model.safetensors").unlink()
    for name in (str(tmp_path), "./missing"):
        classifier, (warning,) = asked_for(name)
        assert classifier is None
        assert warning.startswith(f"Markers alone detect refusals, because {name} cannot be loaded: ")
        assert warning.endswith(".")
        assert "\n" not in warning


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (LocalEntryNotFoundError("no connection"), "there is no connection, and no copy in the cache."),
        (hub_error(RepositoryNotFoundError, 404), "there is no such repository, or it is private."),
    ],
)
def test_a_hub_that_does_not_serve_leaves_the_markers(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, words: str
) -> None:
    def fail(*_arguments: object, **_keywords: object) -> None:
        raise OSError("We couldn't connect to the hub\nand so on") from cause

    monkeypatch.setattr(refusal_classifier.AutoConfig, "from_pretrained", fail)
    without_hub(monkeypatch)
    classifier, warnings = asked_for("facebook/bart-large-mnli")
    assert classifier is None
    assert warnings == [f"Markers alone detect refusals, because facebook/bart-large-mnli cannot be loaded: {words}"]


def test_a_mistake_of_ours_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_keywords: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(refusal_classifier.AutoConfig, "from_pretrained", fail)
    without_hub(monkeypatch)
    monkeypatch.setattr(refusal_classifier, "diagnose", lambda _error, _name: None)
    with pytest.raises(ZeroDivisionError):
        asked_for("facebook/bart-large-mnli")


def test_a_model_of_something_else_is_an_error(tmp_path: Path) -> None:
    save_classifier(tmp_path, ("happy", "sad"))
    with pytest.raises(ConfigurationError, match="happy, sad"):
        asked_for(str(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="names a device that is there")
def test_a_device_that_is_not_there_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    save_classifier(tmp_path, PLAIN)
    with pytest.raises(ModelError, match="--neural-detection-device auto"):
        asked_for(str(tmp_path), neural_detection_device="cuda:7")
