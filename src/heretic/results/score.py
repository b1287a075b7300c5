"""Score: what every evaluator returns; Scores: what one edit was measured to be."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from heretic.results import reading

KL = "kl"
"""Name of the score that says how much everything else changed."""
REFUSALS = "refusals"
"""Name of the score that counts answers with a refusal: what a search for less of it minimises."""
WITHOUT_REFUSAL = "without_refusal"
"""Name of the score that counts the other answers: what a search for more refusals minimises."""
WITHOUT = "without_"
"""Begins the name of a count of the answers that do not show a behaviour, where that is to become more."""
MISSING = "missing_"
"""Begins the name of an amount that is to become more: what answers lack of the most that is counted."""
KEPT = "kept_"
"""Begins the name of a number of answers that have to stay what they are, see Keep."""
_KINDS = ("classifier", "judge")
"""Kinds of readers in scores that were stored before these told which key of theirs names one."""


@dataclass(frozen=True, slots=True)
class AnswerDetails:
    """How a behaviour's answers were judged.

    Attributes:
        tokens: Most tokens of an answer.
        kind: What kind of model read the answers, e.g. ``judge``; empty where none did.
        reader: That model's name.
        counted: Which answers count, to stand behind "counted where"; ``{reader}`` stands for the model that read them.
        answered: Of a trial that was stopped, how many answers had been judged by then; else None.
        further: JSON-ready numbers of a plug-in's evaluator.
    """

    tokens: int | None = None
    kind: str = ""
    reader: str = ""
    answered: int | None = None
    further: Mapping[str, Any] = field(default_factory=dict)
    counted: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; what is not known is left out."""
        return {
            **({} if self.tokens is None else {"tokens": self.tokens}),
            **({self.kind: self.reader, "reader": self.kind} if self.kind else {}),
            **({} if self.answered is None else {"answered": self.answered}),
            **({"counted": self.counted} if self.counted else {}),
            **self.further,
        }

    @classmethod
    def from_json(cls, data: Any) -> "AnswerDetails":
        """The inverse of `to_json`; a ValueError says what is no detail."""
        further = dict(reading.table(data, "details"))
        kind = further.pop("reader", None) or next((own for own in _KINDS if own in further), "")
        kind = reading.text(kind, "reader")
        reader = reading.text(further.pop(kind, ""), "the reader's name")
        tokens, answered = (_whole_or_none(further.pop(name, None), name) for name in ("tokens", "answered"))
        counted = reading.text(further.pop("counted", ""), "counted")
        return cls(tokens, kind, reader, answered, further, counted)


@dataclass(frozen=True, slots=True)
class DivergenceDetails:
    """Where a divergence was looked at, and how it is spread; None for what is not known.

    Attributes:
        mode: ``first`` response token, or ``sequence`` of them.
        tokens: Most tokens of an answer that it is over.
        p95: 95th percentile over the positions, in nats.
        top1_agreement: Share of the positions whose likeliest token is the original model's.
        positions: Their number.
        by_prompt: What each prompt adds to the mean, in nats, times the number of prompts, so that their mean is the
            divergence; in the order of the prompts. Empty of trials that were stopped, and of earlier versions.
    """

    mode: str = ""
    tokens: int | None = None
    p95: float | None = None
    top1_agreement: float | None = None
    positions: int | None = None
    by_prompt: tuple[float, ...] = ()

    @property
    def is_first(self) -> bool:
        """Whether only the first token was looked at."""
        return self.mode == "first"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; what is not known is left out."""
        known = {name: value for name, value in asdict(self).items() if value not in (None, "", ())}
        return {**known, "by_prompt": list(self.by_prompt)} if self.by_prompt else known

    @classmethod
    def from_json(cls, data: Any) -> "DivergenceDetails":
        """The inverse of `to_json`; a ValueError says what is no detail."""
        data = reading.table(data, "details")
        tokens, positions = (_whole_or_none(data.get(name), name) for name in ("tokens", "positions"))
        p95, agreement = (
            None if data.get(name) is None else float(reading.number(data[name], name))
            for name in ("p95", "top1_agreement")
        )
        by_prompt = _divergences(data.get("by_prompt", []))
        return cls(reading.text(data.get("mode", ""), "mode"), tokens, p95, agreement, positions, by_prompt)


def _divergences(stored: Any) -> tuple[float, ...]:
    # Studies hold many: what is plainly a number is not looked at one by one.
    values = [
        value if type(value) is float else float(reading.number(value, "a prompt's divergence"))
        for value in reading.items(stored, "divergences by prompt")
    ]
    reading.number(sum(values), "the sum of divergences")
    return tuple(values)


def _whole_or_none(value: Any, what: str) -> int | None:
    return None if value is None else reading.whole(value, what)


@dataclass(frozen=True, slots=True)
class Keep:
    """What a score says of answers that have to stay what they are: its value counts those that were lost.

    Attributes:
        asked: Prompts of the set. Measured are those whose original answer shows the verdict: no other can be lost.
        allowed: How many of these may be lost; None where losses are one of the numbers that are minimised.
    """

    asked: int
    allowed: int | None = None

    @classmethod
    def from_json(cls, data: Any) -> "Keep | None":
        """The inverse of `asdict`; a ValueError says what is none."""
        if data is None:
            return None
        data = reading.table(data, "keep")
        return cls(reading.whole(data.get("asked"), "asked"), _whole_or_none(data.get("allowed"), "allowed"))


@dataclass(frozen=True, slots=True)
class Score:
    """One measured number.

    Attributes:
        name: What was measured: ``kl``, ``refusals``, ``without_refusal``, ``words``, ...
        value: The number that the search minimises: a mean divergence in nats, a number of answers, or, where there is
            a unit, a mean amount of an answer.
        n: On how many prompts it was measured.
        baseline: The same number of the original model.
        details: How it was measured; of KL always DivergenceDetails.
        unit: What a mean amount is counted in, e.g. ``words``; empty for the others.
        keep: Of answers that have to stay what they are, see Keep; None for behaviours and KL.
    """

    name: str
    value: float
    n: int
    baseline: float
    details: AnswerDetails | DivergenceDetails = field(default_factory=AnswerDetails)
    unit: str = ""
    keep: Keep | None = None

    def __post_init__(self) -> None:
        if self.is_divergence and self.details == AnswerDetails():
            object.__setattr__(self, "details", DivergenceDetails())

    @property
    def label(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ")

    @property
    def is_divergence(self) -> bool:
        """Whether this is the KL divergence and not the behaviour."""
        return self.name == KL

    @property
    def answers(self) -> AnswerDetails:
        """The details of a behaviour; of KL empty ones."""
        return self.details if isinstance(self.details, AnswerDetails) else AnswerDetails()

    @property
    def divergence(self) -> DivergenceDetails:
        """The details of KL; of a behaviour empty ones."""
        return self.details if isinstance(self.details, DivergenceDetails) else DivergenceDetails()

    @property
    def counts_answers(self) -> bool:
        """Whether the value is a number of answers."""
        return not self.is_divergence and not self.unit

    @property
    def excess(self) -> float | None:
        """How much more was lost than may be, 0 or less for a bound that is kept; None for what has no bound."""
        return None if self.keep is None or self.keep.allowed is None else self.value - self.keep.allowed

    @property
    def is_allowed(self) -> bool:
        """Whether no more was lost than may be; true of what is not bounded."""
        return self.excess is None or self.excess <= 0

    @property
    def told(self) -> float:
        """The value as people are told it: of what has to stay, how much did."""
        return self.value if self.keep is None else self.n - self.value

    @property
    def counts_refusals(self) -> bool:
        """Whether the value is the number of answers that refuse, or of those that do not."""
        return self.name in (REFUSALS, WITHOUT_REFUSAL)

    @property
    def is_known(self) -> bool:
        """Whether anything was judged: a trial that is stopped by its divergence alone is asked for no answer."""
        return self.answers.answered != 0

    @property
    def share(self) -> float:
        """The value as a share of the original model's; for a count that was 0, the count itself."""
        return self.value / self.scale

    @property
    def scale(self) -> float:
        """What the value is a share of, above 0."""
        if self.keep is not None:
            return float(self.n)
        if self.counts_answers:
            return max(self.baseline, 1.0)
        return self.baseline if self.baseline > 0 else 1.0

    def amount(self, value: float | None = None) -> str:
        """The value, or another value of its kind, as text: ``3/100`` answers, ``32.1`` words, ``0.0123`` nats."""
        value = self.value if value is None else value
        if self.is_divergence:
            return f"{value:.4f}"
        if self.keep is not None:
            return f"{self.n - value:.0f}/{self.n}"
        if self.counts_answers:
            return f"{value:.0f}/{self.n}"
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"

    @property
    def refusals(self) -> int:
        """How many answers refuse, for a score that counts refusals or answers without one."""
        return int(self.value if self.name == REFUSALS else self.n - self.value)

    @property
    def baseline_refusals(self) -> int:
        """How many answers of the original model refuse, for a score that counts refusals or answers without one."""
        return int(self.baseline if self.name == REFUSALS else self.n - self.baseline)

    def to_json(self) -> dict[str, Any]:
        """The score as plain JSON values."""
        return {
            "name": self.name,
            "value": self.value,
            "n": self.n,
            "baseline": self.baseline,
            "details": self.details.to_json(),
            "unit": self.unit,
            **({} if self.keep is None else {"keep": asdict(self.keep)}),
        }

    @classmethod
    def from_json(cls, data: Any) -> "Score":
        """The inverse of `to_json`; reads what any version stored. A ValueError says what is no score."""
        data = reading.table(data, "a score")
        name = reading.text(data.get("name"), "the name of a score")
        details = (DivergenceDetails if name == KL else AnswerDetails).from_json(data.get("details", {}))
        keep = Keep.from_json(data.get("keep"))
        numbers = (data.get("value"), data.get("n"), data.get("baseline"))
        return checked(cls(name, *numbers, details, data.get("unit", ""), keep))


def checked(score: Any) -> Score:
    """A score whose numbers are what they have to be; those of numpy and torch become Python's.

    Args:
        score: What a plug-in returned, or somebody stored.

    Raises:
        ValueError: It is no score, a number is not finite, a count of answers is not whole, or details are no JSON.
    """
    if not isinstance(score, Score):
        raise ValueError(f"a score must be a Score, but is of type {type(score).__name__}")
    name, unit = reading.text(score.name, "the name of a score"), reading.text(score.unit, "the unit")
    count = reading.whole(score.n, f"the number of prompts of {name}", least=1)
    value, baseline = (
        reading.whole(amount, f"the number of answers of {name}", most=count) if not unit and name != KL else amount
        for amount in (
            reading.number(score.value, f"the value of {name}"),
            reading.number(score.baseline, f"the original model's {name}"),
        )
    )
    if not isinstance(score.details, (AnswerDetails, DivergenceDetails)):
        raise ValueError(f"the details of {name} must be AnswerDetails, but are of type {type(score.details).__name__}")
    try:
        json.dumps(score.details.to_json(), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the details of {name} are no JSON values ({error})") from error
    return replace(score, name=name, value=value, n=count, baseline=baseline, unit=unit)


@dataclass(frozen=True, slots=True)
class Scores:
    """What one edit was measured to be. Iterates over all scores, KL last.

    Attributes:
        behaviors: How much of each behaviour there is, in the order of the run.
        kl: How much everything else changed.
        kept: How many answers that have to stay what they are were lost, set by set.
    """

    behaviors: tuple[Score, ...]
    kl: Score
    kept: tuple[Score, ...] = ()

    @classmethod
    def of(cls, answers: Sequence[Score], kl: Score) -> "Scores":
        """From the scores of behaviours and of answers that have to stay, in any order, and KL."""
        behaviors, kept = ([score for score in answers if (score.keep is None) is own] for own in (True, False))
        return cls(tuple(behaviors), kl, tuple(kept))

    def __iter__(self) -> Iterator[Score]:
        yield from self.of_answers
        yield self.kl

    @property
    def of_answers(self) -> tuple[Score, ...]:
        """All but KL: of behaviours, then of what has to stay."""
        return (*self.behaviors, *self.kept)

    @property
    def minimised(self) -> tuple[Score, ...]:
        """What a study minimises, KL last: all but what is bounded."""
        return tuple(score for score in self if score.excess is None)

    @property
    def values(self) -> tuple[float, ...]:
        """The objective values, lower is better."""
        return tuple(score.value for score in self.minimised)

    @property
    def is_allowed(self) -> bool:
        """Whether no more was lost than may be of what has to stay."""
        return all(score.is_allowed for score in self.kept)

    @property
    def share(self) -> float:
        """What is left of all behaviours: their shares of the original model's, added up."""
        return sum(score.share for score in self.behaviors)

    def to_json(self) -> list[dict[str, Any]]:
        """The scores as plain JSON values."""
        return [score.to_json() for score in self]

    @classmethod
    def from_json(cls, data: Any) -> "Scores | None":
        """The inverse of `to_json`; None where nothing was measured.

        Raises:
            ValueError: One is no score, or KL or a behaviour is missing.
        """
        scores = [Score.from_json(score) for score in reading.items(data, "scores")]
        if not scores:
            return None
        kl = next((score for score in scores if score.is_divergence), None)
        answers = [score for score in scores if not score.is_divergence]
        if kl is None or all(score.keep is not None for score in answers):
            raise ValueError(f"scores must hold a behaviour and {KL}")
        return cls.of(answers, kl)
