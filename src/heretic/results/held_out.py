"""What the confirmation on held-out prompts found: frozen values, for events, manifest, card and report."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from heretic.results import reading
from heretic.results.capability import Capability
from heretic.results.score import Score, Scores


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number with its 95 % interval; answers where they are counted, else a mean amount."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AtLength:
    """A behaviour in answers cut after so many tokens, of the original and of the edited model."""

    tokens: int
    base: Estimate
    edited: Estimate


@dataclass(frozen=True, slots=True)
class Answers:
    """What else is true of one model's answers.

    Attributes:
        words: Mean number of words.
        cut: Answers that were not over after the most tokens.
        empty: Answers without a word.
        looping: Answers that end in repetitions.
        other_script: Answers in another script than the original model's.
        perplexity: Of the original model reading them.
        refusing: Answers that refuse, by the lenient patterns: an edit of another behaviour may bring them along. None
            in folders of earlier versions.
    """

    words: float
    cut: int
    empty: int
    looping: int
    other_script: int
    perplexity: float
    refusing: int | None = None

    @property
    def degenerate(self) -> int:
        """Empty, looping or in another script."""
        return self.empty + self.looping + self.other_script


@dataclass(frozen=True, slots=True)
class HeldOutBehavior:
    """One behaviour on its held-out prompts.

    Attributes:
        behavior: Its pack's name.
        name: What was measured, see Score.
        unit: See Score.
        n: Number of prompts.
        at: By length of the answers, shortest first.
        base: The original model's answers.
        edited: The edited model's.
    """

    behavior: str
    name: str
    unit: str
    n: int
    at: tuple[AtLength, ...]
    base: Answers
    edited: Answers
    change: Estimate | None = None

    @property
    def label(self) -> str:
        """What was measured, as people read it."""
        return self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Example:
    """One held-out prompt with both models' answers. Kept out of manifests: prompts may be nobody else's business."""

    behavior: str
    prompt: str
    base: str
    edited: str


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The confirmation of one trial.

    Attributes:
        tokens: Most tokens of an answer.
        behaviors: In the order of the run.
        kl: KL scores on held-out prompts without the behaviour: of the first token, and over the answers.
        used_before: How many of the prompts the directions or the search had seen, so that they confirm nothing.
        kept: Of answers that have to stay what they are how many did, among those of the original model that are so.
    """

    tokens: int
    behaviors: tuple[HeldOutBehavior, ...]
    kl: tuple[Score, ...]
    used_before: int = 0
    kept: tuple[HeldOutBehavior, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "tokens": self.tokens,
            "behaviors": [asdict(behavior) for behavior in self.behaviors],
            "kl": [score.to_json() for score in self.kl],
            "used_before": self.used_before,
            **({"kept": [asdict(kept) for kept in self.kept]} if self.kept else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "HeldOut":
        """The inverse of `to_json`.

        Raises:
            KeyError: A field is missing.
            ValueError: One is not what it must be.
        """
        behaviors = tuple(_behavior(behavior) for behavior in reading.items(data["behaviors"], "behaviours"))
        kl = tuple(Score.from_json(score) for score in reading.items(data["kl"], "divergences"))
        tokens = reading.whole(data["tokens"], "the most tokens of an answer")
        used_before = reading.whole(data.get("used_before", 0), "the number of prompts used before")
        kept = tuple(_behavior(part) for part in reading.items(data.get("kept", []), "what stayed"))
        return cls(tokens, behaviors, kl, used_before, kept)


def _behavior(data: Any) -> HeldOutBehavior:
    data = reading.table(data, "a behaviour")
    at = tuple(
        AtLength(reading.whole(at["tokens"], "tokens"), _estimate(at["base"]), _estimate(at["edited"]))
        for at in reading.items(data["at"], "lengths of answers")
    )
    if not at:
        raise ValueError("a behaviour was measured at no length of answers")
    return HeldOutBehavior(
        reading.text(data["behavior"], "behavior"),
        reading.text(data["name"], "name"),
        reading.text(data["unit"], "unit"),
        reading.whole(data["n"], "a number of prompts"),
        at,
        _answers(data["base"]),
        _answers(data["edited"]),
        None if data.get("change") is None else _estimate(data["change"]),
    )


def _estimate(data: Any) -> Estimate:
    data = reading.table(data, "an estimate")
    return Estimate(*(reading.number(data[name], name) for name in ("value", "low", "high")))


def _perplexity(value: Any) -> float:
    # That of answers which the original model takes for impossible is beyond all numbers.
    return value if value == math.inf else reading.number(value, "perplexity", 0, sys.float_info.max)


def _answers(data: Any) -> Answers:
    data = reading.table(data, "answers")
    refusing = data.get("refusing")
    return Answers(
        reading.number(data["words"], "words of an answer"),
        reading.whole(data["cut"], "cut answers"),
        reading.whole(data["empty"], "empty answers"),
        reading.whole(data["looping"], "looping answers"),
        reading.whole(data["other_script"], "answers in another script"),
        _perplexity(data["perplexity"]),
        None if refusing is None else reading.whole(refusing, "refusing answers"),
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """What was measured of one trial after it was chosen.

    Attributes:
        held_out: What held-out prompts showed, or None.
        examples: Answers to some of them.
        capability: What the model is able to do beside the original one, or None.
        held_out_scores: What the search measures, of held-out prompts, or None.
    """

    held_out: HeldOut | None = None
    examples: tuple[Example, ...] = ()
    capability: Capability | None = None
    held_out_scores: Scores | None = None


UNCHECKED = Checked()
