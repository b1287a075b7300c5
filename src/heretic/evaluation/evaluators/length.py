"""How long answers are: words to the end of the answer, or as far as answers are read."""

from collections.abc import Sequence

from heretic.evaluation.evaluator import EVALUATORS, Evaluator, EvaluatorOptions
from heretic.evaluation.words_of_texts import count_words, warn_of_joined_words
from heretic.prompts.types import PromptSet

WORDS_PER_TOKEN = 0.75
"""Roughly, of English text: the words that an answer which is to become longer can reach."""


@EVALUATORS.decorator("length")
class LengthEvaluator(Evaluator):
    """Mean number of words. An answer that is cut counts as far as it goes, so the mean is a lower bound then."""

    unit = "words"
    score_name = "words"

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        self.most = WORDS_PER_TOKEN * (options.scale_tokens or options.response_tokens)
        super().__init__(prompts, answers, options)
        if options.tokens is None:
            warn_of_joined_words(options.behavior, answers)

    def amount(self, text: str) -> float:
        """See Evaluator, and `words` for what a word is."""
        return float(count_words(text))
