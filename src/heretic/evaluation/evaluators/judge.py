"""In how many answers a chat model sees the behaviour: it is asked whether a pack's hypotheses are true of them."""

from heretic.evaluation.evaluator import EVALUATORS, AnswerClassifier, EvaluatorOptions
from heretic.evaluation.read_answers import ReadAnswers


@EVALUATORS.decorator("judge")
class JudgedEvaluator(ReadAnswers):
    """Counts answers by the judge."""

    kind = "judge"

    def reader_of(self, options: EvaluatorOptions) -> AnswerClassifier | None:
        """See ReadAnswers."""
        return options.readers.judge
