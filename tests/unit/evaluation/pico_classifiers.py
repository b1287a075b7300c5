"""Tiny sequence-classification models with random weights, and classifiers that are plain functions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tests.models.sizes import EOS, PAD, POSITIONS, VOCABULARY
from tests.models.tokenizer import CHAT_TEMPLATE, pico_tokenizer
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForSequenceClassification,
    set_seed,
)

# Handing a pico model's tiny operations to several threads takes many times longer than computing them.
torch.set_num_threads(1)

NLI = ("contradiction", "neutral", "entailment")
PLAIN = ("NORMAL", "REJECTION")
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": PAD,
    # Large enough for different texts to get different probabilities.
    "initializer_range": 0.6,
}
ARCHITECTURES: Mapping[str, tuple[Any, Any, dict[str, Any]]] = {
    "bert": (BertConfig, BertForSequenceClassification, {}),
    # Its positions begin behind the padding token's number.
    "roberta": (RobertaConfig, RobertaForSequenceClassification, {"max_position_embeddings": POSITIONS + PAD + 1}),
    "llama": (LlamaConfig, LlamaForSequenceClassification, {"eos_token_id": EOS, "num_key_value_heads": 2}),
}


def build_classifier(labels: Sequence[str], architecture: str = "bert", **changes: Any) -> PreTrainedModel:
    """A model with these labels and fixed random weights."""
    configuration, model, own = ARCHITECTURES[architecture]
    set_seed(11)
    names = dict(enumerate(labels))
    arguments = {**_SIZES, **own, "id2label": names, "label2id": {name: index for index, name in names.items()}}
    built: PreTrainedModel = model(configuration(**(arguments | changes)))
    return built.eval()


def reading_tokenizer(conversations: bool = False) -> PreTrainedTokenizerBase:
    """One token a byte; with a chat template, or without."""
    return pico_tokenizer(CHAT_TEMPLATE if conversations else None)


def save_classifier(folder: Path, labels: Sequence[str], **changes: Any) -> PreTrainedModel:
    """Write a model with its tokenizer."""
    model = build_classifier(labels, **changes)
    model.save_pretrained(folder)
    reading_tokenizer().save_pretrained(folder)
    return model


@dataclass
class FunctionClassifier:
    """Any function of request and response; remembers what it was asked."""

    function: Callable[[str, str], float]
    name: str = "function"
    identity: str = "function 1"
    asked: list[list[tuple[str, str]]] = field(default_factory=list)

    def probabilities(self, answers: Sequence[tuple[str, str]], hypotheses: Sequence[str] = ()) -> list[float]:
        """See Reader; what is asked about the answers makes no difference."""
        self.asked.append(list(answers))
        return [self.function(*answer) for answer in answers]
