"""What evaluators share that have another model read the answers: they differ in which model that is."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from heretic.evaluation.answers import Answers
from heretic.evaluation.evaluator import AnswerClassifier, EvaluatorOptions
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.score import WITHOUT, Score


class ReadAnswers(Answers):
    """Counts answers of which a hypothesis is likely true, or, to strengthen the behaviour, those of which none is.

    Attributes:
        kind: What reads: the score's details name it so.
    """

    kind: str

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        reader = self.reader_of(options)
        if reader is None:
            raise ValueError(f"the evaluator needs a {self.kind}")
        self._reader = reader
        self._hypotheses = options.pack.hypotheses
        self._threshold = options.settings.neural_detection_threshold
        self._wanted = not options.strengthens
        name = options.behavior.replace("-", "_")
        self.name = name if self._wanted else f"{WITHOUT}{name}"
        super().__init__(prompts, answers, options)

    @abstractmethod
    def reader_of(self, options: EvaluatorOptions) -> AnswerClassifier | None:
        """The model that reads."""

    def judge(self, text: str, complete: bool) -> float | None:
        """See Evaluator: all answers are read together."""
        return None

    def judge_all(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See Evaluator."""
        texts = [(prompt.user, text) for prompt, text in answers]
        probabilities = self._reader.probabilities(texts, self._hypotheses)
        return [float((probability >= self._threshold) == self._wanted) for probability in probabilities]

    def describe(self, amount: float) -> str:
        """See Evaluator."""
        return self.name.replace("_", " ") if amount else f"not {self.name.replace('_', ' ')}"

    def score_of(self, value: float) -> Score:
        """See Evaluator; the details name the reader."""
        score = super().score_of(value)
        return replace(score, details=replace(score.answers, kind=self.kind, reader=self._reader.name))
