"""What all evaluators of greedy answers share: they differ in what they make of one answer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from heretic.evaluation.evaluator import EvaluatorOptions
from heretic.observability.events import ResponseMeasured, emit
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.score import AnswerDetails, Score


class Answers(ABC):
    """An Evaluator; a subclass says what the amount of an answer is."""

    name: str
    unit = ""

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        self.prompts = prompts.prompts
        self.tokens = options.response_tokens
        self.weight = 1 / len(prompts) if self.unit else 1.0
        amounts = self.judge_all(list(zip(self.prompts, answers, strict=True)))
        for prompt, text, amount in zip(self.prompts, answers, amounts, strict=True):
            emit(ResponseMeasured(None, prompt.user, text, self.describe(amount)))
        self._baseline = sum(amounts) * self.weight

    @abstractmethod
    def judge(self, text: str, complete: bool) -> float | None:
        """See Evaluator."""

    @abstractmethod
    def judge_all(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See Evaluator."""

    @abstractmethod
    def describe(self, amount: float) -> str:
        """See Evaluator."""

    @property
    def baseline(self) -> Score:
        """See Evaluator."""
        return self.score_of(self._baseline)

    def score_of(self, value: float) -> Score:
        """See Evaluator."""
        return Score(self.name, value, len(self.prompts), self._baseline, AnswerDetails(self.tokens), self.unit)


class Amounts(Answers):
    """A mean amount; where the behaviour is to be strengthened, how much of `most` answers lack on average.

    Attributes:
        most: The amount from which an answer lacks nothing.
    """

    unit = "of it"
    most: float

    @abstractmethod
    def measure(self, text: str) -> float:
        """How much of the behaviour an answer shows, at least 0."""

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        self.strengthens = options.strengthens
        super().__init__(prompts, answers, options)

    def judge(self, text: str, complete: bool) -> float | None:
        """See Evaluator: only a whole answer can be measured."""
        return self._amount(text) if complete else None

    def judge_all(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See Evaluator."""
        return [self._amount(text) for _prompt, text in answers]

    def describe(self, amount: float) -> str:
        """See Evaluator."""
        return f"{amount:.1f} {self.unit}{' too few' if self.strengthens else ''}"

    def _amount(self, text: str) -> float:
        amount = self.measure(text)
        return max(self.most - amount, 0.0) if self.strengthens else amount
