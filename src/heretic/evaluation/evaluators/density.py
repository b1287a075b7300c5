"""How dense the marks of a behaviour are in answers: matches of a pack's patterns per 100 words."""

from collections.abc import Sequence

from heretic.evaluation.answers import Amounts
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.marks import Marks
from heretic.prompts.types import PromptSet
from heretic.results.score import MISSING

LEAST_WORDS = 25
"""An answer of fewer words counts as one of so many: a mark in "It depends." is not 50 per 100 words."""
MOST = 10.0
"""Marks per 100 words from which an answer that is to show more of them lacks none."""


@EVALUATORS.decorator("density")
class DensityEvaluator(Amounts):
    """Mean number of marks per 100 words."""

    unit = "marks per 100 words"
    most = MOST

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        name = options.behavior.replace("-", "_")
        self.name = f"{MISSING}{name}" if options.strengthens else name
        self._marks = Marks(options.pack.patterns)
        super().__init__(prompts, answers, options)

    def measure(self, text: str) -> float:
        """See Amounts."""
        return 100.0 * self._marks.count(text) / max(len(text.split()), LEAST_WORDS)
