"""What an edited model is able to do beside the original one: questions answered twice, benchmarks run twice. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from heretic.results.intervals import detectable_difference, paired_interval, wilson_interval

OVERALL = "overall"
"""Names all questions together."""


@dataclass(frozen=True, slots=True)
class PairedAnswers:
    """What became of the answers to some questions.

    Attributes:
        name: Category, or OVERALL.
        both: Right before and after the edit.
        became_wrong: Right before it only.
        became_right: Right after it only.
        neither: Wrong before and after.
        changed: Another choice than before, right or wrong.
    """

    name: str
    both: int
    became_wrong: int
    became_right: int
    neither: int
    changed: int

    @property
    def count(self) -> int:
        """Number of questions."""
        return self.both + self.became_wrong + self.became_right + self.neither

    @property
    def base(self) -> float:
        """Share that the original model answered rightly."""
        return (self.both + self.became_wrong) / self.count

    @property
    def edited(self) -> float:
        """Share that the edited model answered rightly."""
        return (self.both + self.became_right) / self.count

    @property
    def difference(self) -> float:
        """Edited minus original; negative where the edit did damage."""
        return (self.became_right - self.became_wrong) / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of the difference, see `paired_interval`."""
        return paired_interval(self.both, self.became_right, self.became_wrong, self.neither)

    @property
    def detectable(self) -> float:
        """The difference that so many questions would have shown, see `detectable_difference`."""
        return detectable_difference(self.became_right + self.became_wrong, self.count)

    @property
    def p_value(self) -> float:
        """Exact McNemar test: how likely so uneven a change is where an edit spoils as much as it mends."""
        from scipy.stats import binomtest

        discordant = self.became_right + self.became_wrong
        return 1.0 if discordant == 0 else float(binomtest(self.became_right, discordant).pvalue)

    def to_json(self) -> dict[str, Any]:
        """Plain values, shares from 0 to 1."""
        return {
            "name": self.name,
            "n": self.count,
            "base": self.base,
            "base_interval": list(wilson_interval(self.both + self.became_wrong, self.count)),
            "edited": self.edited,
            "edited_interval": list(wilson_interval(self.both + self.became_right, self.count)),
            "difference": self.difference,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "became_right": self.became_right,
            "became_wrong": self.became_wrong,
            "changed": self.changed,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PairedAnswers":
        """The inverse of `to_json`.

        Raises:
            ValueError: The numbers are none of so many questions.
        """
        count, wrong, right = int(data["n"]), int(data["became_wrong"]), int(data["became_right"])
        both = round(data["base"] * count) - wrong
        answers = cls(str(data["name"]), both, wrong, right, count - both - wrong - right, int(data["changed"]))
        if count < 1 or min(answers.both, wrong, right, answers.neither) < 0:
            raise ValueError("answers do not add up")
        return answers


@dataclass(frozen=True, slots=True)
class Questions:
    """Multiple-choice questions.

    Attributes:
        source: Where they come from.
        examples: Worked examples before the questions of each category.
        overall: All of them.
        categories: By category.
    """

    source: str
    examples: tuple[tuple[str, int], ...]
    overall: PairedAnswers
    categories: tuple[PairedAnswers, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; see `PairedAnswers.to_json`."""
        return {
            "source": self.source,
            "few_shot": dict(self.examples),
            "overall": self.overall.to_json(),
            "categories": [category.to_json() for category in self.categories],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Questions":
        """The inverse of `to_json`."""
        return cls(
            str(data["source"]),
            tuple((name, int(count)) for name, count in data["few_shot"].items()),
            PairedAnswers.from_json(data["overall"]),
            tuple(map(PairedAnswers.from_json, data["categories"])),
        )


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One number of one task before and after the edit.

    `interval` is the 95 % confidence interval of the difference (edited minus original) over the same items; None where
    the number is no mean of items.
    """

    task: str
    metric: str
    filter: str
    n: int
    higher_is_better: bool | None
    base: float
    base_error: float | None
    edited: float
    edited_error: float | None
    interval: tuple[float, float] | None

    @property
    def difference(self) -> float:
        """Edited minus original."""
        return self.edited - self.base

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        interval = None if self.interval is None else list(self.interval)
        return {**asdict(self), "difference": self.difference, "interval": interval}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Benchmark":
        """The inverse of `to_json`."""
        return TypeAdapter(cls).validate_python(data)


@dataclass(frozen=True, slots=True)
class Capability:
    """The comparison of an edited model with the original one.

    Attributes:
        questions: Multiple-choice questions; None where only benchmarks were run.
        benchmarks: Every number of every task; empty where none were run.
        limit: Items of each task at most, or None for all.
    """

    questions: Questions | None
    benchmarks: tuple[Benchmark, ...]
    limit: int | None

    def joined(self, newer: "Capability") -> "Capability":
        """With what a further check of the same trial found; its numbers of what both measured."""
        again = {benchmark.task for benchmark in newer.benchmarks}
        others = [benchmark for benchmark in self.benchmarks if benchmark.task not in again]
        return replace(newer, questions=newer.questions or self.questions, benchmarks=(*others, *newer.benchmarks))

    def to_json(self) -> dict[str, Any]:
        """Plain values: ``questions`` (null without) and ``benchmarks``, shares from 0 to 1."""
        return {
            "questions": None if self.questions is None else self.questions.to_json(),
            "benchmarks": [benchmark.to_json() for benchmark in self.benchmarks],
            "benchmark_limit": self.limit,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Capability":
        """The inverse of `to_json`; whatever is no number raises TypeError or ValueError."""
        questions = data["questions"]
        return cls(
            None if questions is None else Questions.from_json(questions),
            tuple(map(Benchmark.from_json, data["benchmarks"])),
            data["benchmark_limit"],
        )


def compare_answers(
    categories: Sequence[str], right: Sequence[int], base: Sequence[int], edited: Sequence[int]
) -> tuple[PairedAnswers, ...]:
    """Compare two models' answers to the same questions: all of them, then by category.

    Args:
        categories: Category of each of N questions.
        right: Index of each one's right choice.
        base: Indices that the original model chose.
        edited: Indices that the edited model chose.

    Raises:
        ValueError: They are not equally many.
    """
    rows = list(zip(categories, right, base, edited, strict=True))
    names = dict.fromkeys(categories)
    return (_paired(OVERALL, rows), *(_paired(name, [row for row in rows if row[0] == name]) for name in names))


def _paired(name: str, rows: Sequence[tuple[str, int, int, int]]) -> PairedAnswers:
    pairs = Counter((base == right, edited == right) for _name, right, base, edited in rows)
    changed = sum(base != edited for _name, _right, base, edited in rows)
    both, became_wrong, became_right = pairs[True, True], pairs[True, False], pairs[False, True]
    return PairedAnswers(name, both, became_wrong, became_right, pairs[False, False], changed)
