"""How often the model refuses: answers that match refusal patterns, or that a classifier takes for refusals."""

from collections.abc import Sequence

from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS, Evaluator, EvaluatorOptions
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.score import REFUSALS, WITHOUT_REFUSAL


@EVALUATORS.decorator("markers")
class MarkerEvaluator(Evaluator):
    """Counts refusals in greedy answers. What the patterns leave open, a classifier decides where there is one.

    A pattern's verdict is final, so an answer may end as soon as one is certain.
    """

    finds_refusals = True
    score_name = REFUSALS
    lacking_name = WITHOUT_REFUSAL
    counted = "they match patterns of refusal"
    counted_lacking = "they match no pattern of refusal"
    verdicts = ("refused", "answered")

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        self._detector = RefusalDetector(options.settings)
        self._threshold = options.settings.neural_detection_threshold
        super().__init__(prompts, answers, options)
        narrower = "count fewer as refusals with --refusal-detection-mode strict"
        words = narrower if self._strengthens else "name their words with --refusal-markers"
        self.otherwise = f"{words}, or {self.otherwise}"
        if self._reader is not None:
            self.counted += " or {reader} reads one in them"
            self.counted_lacking += " and {reader} reads none in them"

    @classmethod
    def wanted_reader(cls, settings: Settings) -> str:
        """See Evaluator."""
        return "classifier" if settings.use_neural_refusal_detection else ""

    def settled(self, text: str) -> float | None:
        """See Evaluator: refusing once is enough."""
        return 1.0 if self._detector.is_settled(text) else None

    def amount(self, text: str) -> float | None:
        """See Evaluator."""
        if self._detector.is_refusal(text):
            return 1.0
        return 0.0 if self._reader is None else None

    def amounts(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See Evaluator: all answers that match no pattern go to the classifier at once."""
        amounts = [float(self._detector.is_refusal(text)) for _prompt, text in answers]
        rest = [row for row, amount in enumerate(amounts) if not amount]
        if self._reader is not None and rest:
            texts = [(answers[row][0].user, answers[row][1]) for row in rest]
            for row, probability in zip(rest, self._reader.probabilities(texts), strict=True):
                amounts[row] = float(probability >= self._threshold)
        return amounts
