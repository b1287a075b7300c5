"""In how many answers a pack's patterns are found: a verdict that words show."""

from collections.abc import Sequence

from pydantic import Field

from heretic.evaluation.evaluator import EVALUATORS, Evaluator, EvaluatorOptions
from heretic.evaluation.evaluators.density import DensityOptions
from heretic.evaluation.marks import Marks
from heretic.prompts.types import PromptSet


class PatternOptions(DensityOptions):
    """What a pack says.

    Attributes:
        patterns: Regular expressions.
        least: How many matches an answer needs; of those that overlap only one counts.
    """

    least: int = Field(default=1, ge=1, le=1000)


@EVALUATORS.decorator("patterns")
class PatternEvaluator(Evaluator):
    """Counts answers in which enough patterns are found."""

    Options = PatternOptions
    counted = "the pack's patterns are found in them"
    counted_lacking = "the pack's patterns are not found in them"

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        told = PatternOptions.model_validate(options.pack.model_dump())
        self._marks, self._least = Marks(told.patterns), told.least
        super().__init__(prompts, answers, options)

    def amount(self, text: str) -> float:
        """See Evaluator."""
        return float(self._marks.count(text) >= self._least)
