"""In how many answers a chat model sees the behaviour: it is asked whether a pack's hypotheses are true of them."""

from heretic.evaluation.evaluator import EVALUATORS
from heretic.evaluation.read_answers import ReadAnswers


@EVALUATORS.decorator("judge")
class JudgedEvaluator(ReadAnswers):
    """Counts answers by the judge."""

    reader = "judge"
