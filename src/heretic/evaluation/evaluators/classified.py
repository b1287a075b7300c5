"""In how many answers a classifier reads the behaviour: a pack's hypotheses put to a model of language inference."""

from collections.abc import Sequence

from heretic.evaluation.answers import Answers
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.models.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet
from heretic.score import WITHOUT


@EVALUATORS.decorator("classifier")
class ClassifiedEvaluator(Answers):
    """Counts answers of which a hypothesis is likely true, or, to strengthen the behaviour, those of which none is."""

    def __init__(self, runner: ModelRunner, prompts: PromptSet, options: EvaluatorOptions) -> None:
        if options.classifier is None:
            raise ValueError("the evaluator needs a classifier")
        self._classifier = options.classifier
        self._hypotheses = options.hypotheses
        self._threshold = options.classifier_threshold
        self._wanted = options.goal != "strengthen"
        name = options.behavior.replace("-", "_")
        self.name = name if self._wanted else f"{WITHOUT}{name}"
        super().__init__(runner, prompts, options)

    def judge(self, text: str, complete: bool) -> float | None:
        """See AnswerEvaluator: all answers are classified together."""
        return None

    def judge_all(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See AnswerEvaluator."""
        asked = [(prompt.user, text) for prompt, text in answers]
        found = self._classifier.probabilities(asked, self._hypotheses)
        return [float((probability >= self._threshold) == self._wanted) for probability in found]

    def describe(self, amount: float) -> str:
        """See AnswerEvaluator."""
        return self.name.replace("_", " ") if amount else f"not {self.name.replace('_', ' ')}"
