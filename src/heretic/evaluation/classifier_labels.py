"""Which outputs of a sequence-classification model say that an answer is a refusal; pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from heretic.common.errors import ConfigurationError

_REFUSAL = ("refus", "reject", "declin", "denial", "abstain", "abstention")
_ENTAILMENT = ("entail",)
_NEGATIONS = frozenset({"no", "non", "not", "without", "never"})


@dataclass(frozen=True, slots=True)
class RefusalHead:
    """How logits become the probability of a refusal.

    Attributes:
        labels: Indices of the outputs that count.
        entailment: Whether they say that a hypothesis follows from the text (natural language inference), not that the
            text is a refusal.
        independent: Whether each output is a probability of its own (sigmoid) instead of one share of all (softmax).
    """

    labels: tuple[int, ...]
    entailment: bool
    independent: bool

    def probabilities(self, logits: Tensor) -> Tensor:
        """[rows, labels] to [rows]."""
        logits = logits.float()
        if self.independent:
            return logits[:, list(self.labels)].sigmoid().amax(-1)
        return logits.softmax(-1)[:, list(self.labels)].sum(-1)


def refusal_head(name: str, configuration: Any) -> RefusalHead:
    """The head that a transformers configuration describes.

    Args:
        name: The model, for the message.
        configuration: Its configuration, with ``id2label`` and ``problem_type``.

    Raises:
        ConfigurationError: No label names a refusal or an entailment.
    """
    labels = [str(configuration.id2label[index]) for index in range(len(configuration.id2label))]
    independent = len(labels) == 1 or configuration.problem_type == "multi_label_classification"
    for stems, entailment in ((_REFUSAL, False), (_ENTAILMENT, True)):
        indices = tuple(index for index, label in enumerate(labels) if _names(label, stems))
        if indices:
            return RefusalHead(indices, entailment, independent)
    raise ConfigurationError(
        f"None of the labels of {name} ({', '.join(labels)}) names a refusal or an entailment, so it cannot tell "
        "refusals; give a natural language inference model or a refusal classifier as --neural-detection-model."
    )


def _names(label: str, stems: Sequence[str]) -> bool:
    """Whether a label names one of these, and not its opposite, as in ``Non-refusal`` or ``not_entailment``."""
    # FullRefusal is two words.
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label).lower())
    return any(word.startswith(tuple(stems)) for word in words) and _NEGATIONS.isdisjoint(words)
