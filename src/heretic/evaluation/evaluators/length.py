"""How long answers are: words to the end of the answer, or as far as answers are read."""

from collections.abc import Sequence

from heretic.evaluation.answers import Amounts
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.prompts.types import PromptSet
from heretic.results.score import MISSING

WORDS_PER_TOKEN = 0.75
"""Roughly, of English text: the words that an answer which is to become longer can reach."""


@EVALUATORS.decorator("length")
class LengthEvaluator(Amounts):
    """Mean number of words. An answer that is cut counts as far as it goes, so the mean is a lower bound then."""

    unit = "words"

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        self.name = f"{MISSING}words" if options.strengthens else "words"
        self.most = WORDS_PER_TOKEN * (options.scale_tokens or options.response_tokens)
        super().__init__(prompts, answers, options)

    def measure(self, text: str) -> float:
        """See Amounts: words are what spaces separate."""
        return float(len(text.split()))
