"""How dense the marks of a behaviour are in answers: matches of a pack's patterns per 100 words."""

import hashlib
from collections.abc import Sequence
from typing import Any

from pydantic import Field, field_validator

from heretic.evaluation.evaluator import EVALUATORS, Evaluator, EvaluatorOptions
from heretic.evaluation.marks import Marks
from heretic.evaluation.words_of_texts import count_words, warn_of_joined_words
from heretic.prompts.packs import Line, PackOptions
from heretic.prompts.types import PromptSet

LEAST_WORDS = 25
"""An answer of fewer words counts as one of so many: a mark in "It depends." is not 50 per 100 words."""
MOST = 10.0
"""Marks per 100 words from which an answer that is to show more of them lacks none."""


class DensityOptions(PackOptions):
    """What a pack says.

    Attributes:
        patterns: Regular expressions of the marks.
    """

    patterns: tuple[Line, ...] = Field(strict=False, min_length=1)

    def identity(self) -> dict[str, Any]:
        """See PackOptions; a pack has many patterns."""
        return super().identity() | {"patterns": hashlib.sha256("\n".join(self.patterns).encode()).hexdigest()}

    @field_validator("patterns")
    @classmethod
    def _can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Marks(value)
        return value


@EVALUATORS.decorator("density")
class DensityEvaluator(Evaluator):
    """Mean number of marks per 100 words."""

    Options = DensityOptions
    unit = "marks per 100 words"
    most = MOST

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        self._marks = Marks(self.Options.model_validate(options.pack.model_dump()).patterns)
        super().__init__(prompts, answers, options)
        if options.tokens is None:
            warn_of_joined_words(options.behavior, answers)

    def marks(self, text: str) -> Sequence[tuple[int, int]]:
        """See Evaluator."""
        return self._marks.spans(text)

    def amount(self, text: str) -> float:
        """See Evaluator."""
        return 100.0 * self._marks.count(text) / max(count_words(text), LEAST_WORDS)
