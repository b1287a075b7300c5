"""What evaluators share that have another model read the answers: they differ in which model that is."""

from collections.abc import Sequence

from pydantic import Field

from heretic.evaluation.evaluator import Evaluator, EvaluatorOptions
from heretic.prompts.packs import Line, PackOptions
from heretic.prompts.types import Prompt, PromptSet


class HypothesisOptions(PackOptions):
    """What a pack says.

    Attributes:
        hypotheses: Statements about an answer that the reader is asked about.
    """

    hypotheses: tuple[Line, ...] = Field(strict=False, min_length=1)


class ReadAnswers(Evaluator):
    """Counts answers of which a hypothesis is likely true."""

    Options = HypothesisOptions
    counted = "{reader} finds a statement about them likely that says so"
    counted_lacking = "{reader} finds no statement about them likely that says otherwise"
    otherwise = "have another model read them, or try another --neural-detection-threshold"

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        self._hypotheses = HypothesisOptions.model_validate(options.pack.model_dump()).hypotheses
        self._threshold = options.settings.neural_detection_threshold
        super().__init__(prompts, answers, options)

    def amount(self, text: str) -> None:
        """See Evaluator: all answers are read together."""

    def amounts(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See Evaluator."""
        texts = [(prompt.user, text) for prompt, text in answers]
        probabilities = self.needed_reader.probabilities(texts, self._hypotheses)
        return [float(probability >= self._threshold) for probability in probabilities]
