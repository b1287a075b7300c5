"""Refusal markers and a classifier together: what the markers leave open, the classifier decides."""

from collections.abc import Sequence
from dataclasses import replace

from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.score import Score


@EVALUATORS.decorator("neural")
class NeuralEvaluator(MarkerEvaluator):
    """Counts what markers find, and of the other answers those that the classifier takes for refusals.

    A marker's verdict is final, so an answer may still end as soon as one is certain.
    """

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        if options.readers.classifier is None:
            raise ValueError("the neural evaluator needs a classifier")
        self._classifier = options.readers.classifier
        self._threshold = options.settings.neural_detection_threshold
        super().__init__(prompts, answers, options)

    def score_of(self, value: float) -> Score:
        """See Evaluator; the details name the classifier."""
        score = super().score_of(value)
        return replace(score, details=replace(score.answers, kind="classifier", reader=self._classifier.name))

    def judge(self, text: str, complete: bool) -> float | None:
        """See Evaluator: only a marker's yes is certain."""
        refused = self._amount(True)
        return refused if super().judge(text, complete) == refused else None

    def refusals(self, answers: Sequence[tuple[Prompt, str]]) -> list[bool]:
        """See MarkerEvaluator: all answers without a marker go to the classifier at once."""
        verdicts = super().refusals(answers)
        rest = [row for row, refused in enumerate(verdicts) if not refused]
        probabilities = self._classifier.probabilities([(answers[row][0].user, answers[row][1]) for row in rest])
        for row, probability in zip(rest, probabilities, strict=True):
            verdicts[row] = probability >= self._threshold
        return verdicts
