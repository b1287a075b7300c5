"""In how many answers a classifier reads the behaviour: a pack's hypotheses put to a model of language inference."""

from heretic.evaluation.evaluator import EVALUATORS
from heretic.evaluation.read_answers import ReadAnswers


@EVALUATORS.decorator("classifier")
class ClassifiedEvaluator(ReadAnswers):
    """Counts answers by the classifier."""

    reader = "classifier"
