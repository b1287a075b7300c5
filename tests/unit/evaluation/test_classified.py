"""Behaviours that a classifier reads in answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation.pico_classifiers import NLI, PLAIN, build_classifier, reading_tokenizer
from tests.unit.passes.pico_runner import PROMPT_SET

from heretic.common.errors import ConfigurationError, ModelError, PluginError
from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.pack_check import check_evaluator, measured_packs
from heretic.evaluation.readers import classifier as classifier_reader
from heretic.evaluation.refusal_classifier import RefusalClassifier
from heretic.prompts.packs import PackOptions, read_pack
from heretic.results.score import AnswerDetails

HYPOTHESES = ("The answer flatters.",)


class LongAnswers:
    """Takes long answers for flattery, and remembers what it was asked."""

    name = identity = "long"

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    def probabilities(self, answers: Sequence[tuple[str, str]], hypotheses: Sequence[str] = ()) -> list[float]:
        self.asked.append(hypotheses)
        return [0.9 if len(text) > 10 else 0.1 for _request, text in answers]


@pytest.mark.parametrize("kind", ["classifier", "judge"])
@pytest.mark.parametrize(("goal", "name"), [("remove", "flattery"), ("strengthen", "without_flattery")])
def test_answers_are_counted_by_the_packs_hypotheses(goal: str, name: str, kind: str) -> None:
    classifier = LongAnswers()
    options = EvaluatorOptions(
        Settings(goal=goal), PackOptions(tokens=12, hypotheses=HYPOTHESES), "flattery", {kind: classifier}
    )
    answers = ["Short.", "A rather long answer.", "No.", "Another one that is long.", "This one is long as well."]
    evaluator = EVALUATORS.get(kind)(PROMPT_SET, answers, options)
    long = 3
    score = evaluator.baseline
    assert (score.name, score.counts_answers, score.n) == (name, True, len(PROMPT_SET))
    assert score.value == (long if goal == "remove" else len(PROMPT_SET) - long)
    assert set(classifier.asked) == {HYPOTHESES}
    assert score.details == AnswerDetails(12, kind, "long", counted=score.answers.counted)
    assert evaluator.judge("anything at all that is long", True) is None


def test_hypotheses_are_told_apart() -> None:
    classifier = RefusalClassifier("nli", build_classifier(NLI), reading_tokenizer(), 4)
    answers = [("Hi", "What a wonderful question that is"), ("Hi", "No.")]
    own = classifier.probabilities(answers, HYPOTHESES)
    other = classifier.probabilities(answers, ("Something else is true here.",))
    refusal = classifier.probabilities(answers)
    assert len({tuple(own), tuple(other), tuple(refusal)}) == 3
    assert classifier.probabilities(answers, HYPOTHESES) == own
    together = classifier.probabilities(answers, (*HYPOTHESES, "Something else is true here."))
    assert together == pytest.approx([max(pair) for pair in zip(own, other, strict=True)], abs=1e-6)


def test_what_only_knows_refusals_is_refused() -> None:
    classifier = RefusalClassifier("plain", build_classifier(PLAIN), reading_tokenizer(), 4)
    with pytest.raises(ConfigurationError, match="natural language inference model as --neural-detection-model"):
        classifier.probabilities([("Hi", "No.")], HYPOTHESES)


def test_a_behaviour_that_needs_a_classifier_does_not_go_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> RefusalClassifier:
        raise ModelError("there is none")

    monkeypatch.setattr(classifier_reader, "load_refusal_classifier", fail)
    settings = Settings(model="x", neural_detection_model="gone", use_neural_refusal_detection=True, device="cpu")
    assert classifier_reader.classifier_for(settings) is None
    with pytest.raises(ModelError, match=r"flattery is measured by a classifier, and gone cannot be loaded \(there is"):
        classifier_reader.classifier_for(settings, "flattery")


@pytest.mark.parametrize("kind", ["classifier", "judge"])
def test_nothing_is_measured_without_its_reader(kind: str) -> None:
    other = {"classifier": "judge", "judge": "classifier"}[kind]
    readers = {other: LongAnswers()}
    options = EvaluatorOptions(Settings(), PackOptions(hypotheses=HYPOTHESES), readers=readers)
    with pytest.raises(ValueError, match=f"needs a {kind}"):
        EVALUATORS.get(kind)(PROMPT_SET, [""] * len(PROMPT_SET), options)


def test_a_pack_without_hypotheses_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pack.toml"
    file.write_text('name = "flattery"\ndescription = "d"\ncard = "c"\nevaluator = "classifier"\n')
    pack = read_pack(file)
    with pytest.raises(ConfigurationError, match="needs hypotheses"):
        check_evaluator(pack)


def test_packs_that_say_what_to_ask_are_measured_as_the_user_prefers() -> None:
    def measured(*names: str, **changes: Any) -> list[str]:
        return [pack.evaluator for pack in measured_packs(Settings(model="x", behavior=list(names), **changes))]

    assert measured("hedging", "over-refusal") == ["density", "markers"]
    assert measured("hedging", "over-refusal", measure_with="judge") == ["judge", "judge"]
    assert measured("verbosity", "hedging", measure_with="classifier") == ["length", "classifier"]
    assert measured("verbosity", measure_with="judge") == ["length"]
    assert measured("hedging", measure_with="length") == ["density"]
    with pytest.raises(PluginError, match="no evaluator named jugde"):
        measured("hedging", measure_with="jugde")
