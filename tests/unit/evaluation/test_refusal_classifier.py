"""A classifier's batches, its memory and its labels; the reference reads one text at a time, without padding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.evaluation.pico_classifiers import (
    ARCHITECTURES,
    NLI,
    PLAIN,
    build_classifier,
    reading_tokenizer,
    save_classifier,
)

from heretic.common.errors import ConfigurationError, ModelError, OutOfMemoryError
from heretic.evaluation.classifier_labels import RefusalHead, refusal_head
from heretic.evaluation.refusal_classifier import HYPOTHESES, RefusalClassifier, load_refusal_classifier

CPU = torch.device("cpu")
ANSWERS = (
    ("Sing.", "La la la."),
    ("Tell me about the sea.", "The sea is wide and blue, and there are many ships on it."),
    ("Dance!", "No."),
    ("Tell me about the sea.", "x"),
    ("What is 2 + 2?", "I would rather talk about the harbour, the lighthouse and the ferry to the island."),
)


def make(labels: Sequence[str], architecture: str = "bert", batch_size: int = 3, **changes: Any) -> RefusalClassifier:
    tokenizer = reading_tokenizer(changes.pop("conversations", False))
    return RefusalClassifier("pico", build_classifier(labels, architecture, **changes), tokenizer, batch_size)


@torch.no_grad()
def alone(classifier: RefusalClassifier, text: str, hypothesis: str | None = None) -> list[float]:
    """Shares of all labels for one text, which is never padded."""
    pair = (text,) if hypothesis is None else (text, hypothesis)
    ids = reading_tokenizer()(*pair, return_tensors="pt")["input_ids"]
    shares: list[float] = classifier._model(input_ids=ids).logits[0].softmax(-1).tolist()
    return shares


def passes_of(classifier: RefusalClassifier, limit: int = 1000) -> list[int]:
    """Rows of every pass from now on; above the limit memory runs out."""
    rows: list[int] = []

    def watch(_module: object, _arguments: object, keywords: dict[str, torch.Tensor]) -> None:
        rows.append(len(keywords["input_ids"]))
        if rows[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    classifier._model.register_forward_pre_hook(watch, with_kwargs=True)
    return rows


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_a_refusal_classifier_reads_answers_alone(architecture: str, batch_size: int) -> None:
    classifier = make(PLAIN, architecture, batch_size)
    expected = [alone(classifier, response)[1] for _, response in ANSWERS]
    assert max(expected) - min(expected) > 0.02
    assert classifier.probabilities(ANSWERS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_inference_counts_the_likelier_hypothesis(architecture: str, batch_size: int) -> None:
    classifier = make(NLI, architecture, batch_size)
    both = [[alone(classifier, response, hypothesis)[2] for hypothesis in HYPOTHESES] for _, response in ANSWERS]
    assert classifier.probabilities(ANSWERS) == pytest.approx([max(own) for own in both], abs=1e-5)
    assert any(abs(first - second) > 1e-3 for first, second in both)


def test_what_was_read_once_is_not_read_again() -> None:
    classifier = make(PLAIN, batch_size=100)
    rows = passes_of(classifier)
    first = classifier.probabilities([*ANSWERS, ("Another request", "No.")])
    assert rows == [len(ANSWERS)]
    assert first[5] == first[2]
    again = classifier.probabilities([ANSWERS[2], ("Sing.", "Something new."), ANSWERS[0]])
    assert rows == [len(ANSWERS), 1]
    assert (again[0], again[2]) == (first[2], first[0])
    assert classifier.probabilities([]) == []
    assert len(rows) == 2


@pytest.mark.parametrize("labels", [PLAIN, NLI])
def test_batches_shrink_where_memory_runs_out(labels: Sequence[str]) -> None:
    expected = make(labels).probabilities(ANSWERS)
    classifier = make(labels, batch_size=100)
    rows = passes_of(classifier, limit=2)
    assert classifier.probabilities(ANSWERS) == pytest.approx(expected, abs=1e-5)
    texts = len(ANSWERS) * (len(HYPOTHESES) if labels == NLI else 1)
    assert sum(count for count in rows if count <= 2) == texts
    passes_of(classifier, limit=0)
    with pytest.raises(OutOfMemoryError, match="while classifying answers"):
        classifier.probabilities([("Sing.", "Something new.")])


@pytest.mark.parametrize("labels", [PLAIN, NLI])
def test_long_texts_are_cut_and_hypotheses_are_not(labels: Sequence[str]) -> None:
    classifier = make(labels)
    lengths = []

    def watch(_module: object, _arguments: object, keywords: dict[str, torch.Tensor]) -> None:
        lengths.append(keywords["input_ids"].shape[1])
        for row in keywords["input_ids"].tolist():
            text = reading_tokenizer().decode(row, skip_special_tokens=True)
            assert labels == PLAIN or text.endswith(HYPOTHESES)

    classifier._model.register_forward_pre_hook(watch, with_kwargs=True)
    (probability,) = classifier.probabilities([("Go on.", "word " * 1000)])
    assert 0 < probability < 1
    assert 400 < max(lengths) <= 512


def test_a_model_of_conversations_reads_the_request_as_well() -> None:
    classifier = make(PLAIN, conversations=True)
    rendered = [f"<|user|>{request}<|end|><|assistant|>{response}<|end|>" for request, response in ANSWERS]
    expected = [alone(classifier, text)[1] for text in rendered]
    assert classifier.probabilities(ANSWERS) == pytest.approx(expected, abs=1e-5)
    same_answer = classifier.probabilities([("Sing.", "No."), ("Dance!", "No.")])
    assert same_answer[0] != same_answer[1]
    # A hypothesis about an answer is asked of the answer, whatever the tokenizer brings.
    inference = make(NLI, conversations=True)
    assert inference.probabilities(ANSWERS) == make(NLI).probabilities(ANSWERS)


# Labels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "indices", "entailment"),
    [
        (("NORMAL", "REJECTION"), (1,), False),
        (("Refusal", "Non-refusal"), (0,), False),
        (("Non-refusal", "Refusal"), (1,), False),
        (("not refused", "no_refusal", "refused"), (2,), False),
        (("compliant", "full_refusal", "partial_refusal", "clarification"), (1, 2), False),
        (("Answer", "SoftRefusal", "HardRefusal"), (1, 2), False),
        (("complies", "declined"), (1,), False),
        (("nonrefusal", "refusal"), (1,), False),
        (("entailment", "neutral", "contradiction"), (0,), True),
        (("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), (2,), True),
        (("entailment", "not_entailment"), (0,), True),
        (("not_entailment", "entailment"), (1,), True),
    ],
)
def test_labels_are_found_by_what_they_say(labels: tuple[str, ...], indices: tuple[int, ...], entailment: bool) -> None:
    head = refusal_head("pico", build_classifier(labels).config)
    assert (head.labels, head.entailment, head.independent) == (indices, entailment, False)


@pytest.mark.parametrize("labels", [("LABEL_0", "LABEL_1"), ("POSITIVE", "NEGATIVE"), ("not_entailment", "no refusal")])
def test_other_labels_are_named_in_the_error(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="--neural-detection-model") as caught:
        refusal_head("pico", build_classifier(labels).config)
    assert "pico" in str(caught.value)
    assert ", ".join(labels) in str(caught.value)


def test_probabilities_of_several_labels() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]])
    shares = logits.exp() / logits.exp().sum(-1, keepdim=True)
    together = RefusalHead((1, 2), entailment=False, independent=False).probabilities(logits)
    torch.testing.assert_close(together, shares[:, 1] + shares[:, 2])
    each = RefusalHead((1, 2), entailment=False, independent=True).probabilities(logits)
    torch.testing.assert_close(each, 1 / (1 + torch.tensor([-2.0, -0.5]).exp()))


@pytest.mark.parametrize("changes", [{"problem_type": "multi_label_classification"}, {}])
def test_independent_labels_are_no_shares(changes: dict[str, str]) -> None:
    labels = ("refusal", "rude") if changes else ("refusal",)
    classifier = make(labels, **changes)
    with torch.no_grad():
        ids = reading_tokenizer()("No.", return_tensors="pt")["input_ids"]
        logit = classifier._model(input_ids=ids).logits[0, 0]
    assert classifier.probabilities([("Dance!", "No.")]) == pytest.approx([float(logit.sigmoid())], abs=1e-5)


# Loading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [PLAIN, NLI])
def test_a_saved_folder_gives_what_the_model_gave(tmp_path: Path, labels: Sequence[str]) -> None:
    save_classifier(tmp_path, labels)
    loaded = load_refusal_classifier(str(tmp_path), CPU, 2)
    assert loaded.name == str(tmp_path)
    assert loaded.probabilities(ANSWERS) == pytest.approx(make(labels).probabilities(ANSWERS), abs=1e-5)
    assert loaded.identity == make(labels).identity


def test_other_weights_and_other_labels_are_another_identity() -> None:
    classifiers = [make(PLAIN), make(NLI), make(PLAIN[::-1]), make(PLAIN, hidden_size=8), make(PLAIN, "roberta")]
    other_weights = make(PLAIN)
    other_weights._model.classifier.weight.data += 1
    assert len({classifier.identity for classifier in [*classifiers, other_weights]}) == 6


def test_half_precision_weights_compute_in_full(tmp_path: Path) -> None:
    """A verdict must not depend on what shares the batch."""
    build_classifier(PLAIN).to(torch.bfloat16).save_pretrained(tmp_path)
    reading_tokenizer().save_pretrained(tmp_path)
    many = load_refusal_classifier(str(tmp_path), CPU, 100).probabilities(ANSWERS)
    one = load_refusal_classifier(str(tmp_path), CPU, 1).probabilities(ANSWERS)
    assert many == pytest.approx(one, abs=1e-6)


def test_labels_are_looked_at_before_the_weights(tmp_path: Path) -> None:
    save_classifier(tmp_path, ("happy", "sad"))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="happy, sad"):
        load_refusal_classifier(str(tmp_path), CPU, 2)


def without_head(folder: Path) -> None:
    build_classifier(PLAIN).base_model.save_pretrained(folder)
    configuration = build_classifier(PLAIN).config
    configuration.save_pretrained(folder)


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no weights")


def without_numbers(folder: Path) -> None:
    model = build_classifier(PLAIN)
    model.classifier.bias.data[0] = torch.nan
    model.save_pretrained(folder)


def with_small_vocabulary(folder: Path) -> None:
    build_classifier(PLAIN, vocab_size=40, pad_token_id=0).save_pretrained(folder)


def with_a_broken_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}")


def without_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without_head, "lacks the weights classifier"),
        (without_weights, "model.safetensors"),
        (with_damaged_weights, "eader"),
        (without_numbers, "not finite"),
        (with_small_vocabulary, "out of range"),
        (with_a_broken_template, "no"),
        (without_configuration, "holds no config.json"),
    ],
)
def test_what_cannot_be_used_is_said_in_some_words(tmp_path: Path, damage: Any, words: str) -> None:
    save_classifier(tmp_path, PLAIN)
    damage(tmp_path)
    with pytest.raises(ModelError, match=words) as caught:
        load_refusal_classifier(str(tmp_path), CPU, 2)
    assert str(caught.value)
    assert not str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_path_that_does_not_exist_is_said() -> None:
    with pytest.raises(ModelError, match=r"no folder or file \./missing"):
        load_refusal_classifier("./missing", CPU, 2)
