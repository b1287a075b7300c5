"""What all evaluators of greedy answers share: they differ in what they make of one answer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from heretic.evaluation.evaluator import EvaluatorOptions
from heretic.observability.events import ResponseMeasured, emit
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.score import AnswerDetails, Score

if TYPE_CHECKING:
    from heretic.passes.runner import ModelRunner, Response


class Answers(ABC):
    """An AnswerEvaluator; a subclass says what the amount of an answer is."""

    name: str
    unit = ""

    def __init__(self, runner: "ModelRunner", prompts: PromptSet, options: EvaluatorOptions) -> None:
        self.runner = runner
        self.prompts = prompts.prompts
        self.tokens = options.response_tokens
        self.weight = 1 / len(prompts) if self.unit else 1.0
        self.base_responses: Sequence[Response] = runner.generate(self.prompts, self.tokens)
        self._baseline = self._total(None, self.base_responses)

    @abstractmethod
    def judge(self, text: str, complete: bool) -> float | None:
        """See AnswerEvaluator."""

    @abstractmethod
    def judge_all(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See AnswerEvaluator."""

    @abstractmethod
    def describe(self, amount: float) -> str:
        """See AnswerEvaluator."""

    @property
    def baseline(self) -> Score:
        """See Evaluator: the unedited model's score."""
        return self.score_of(self._baseline)

    def remember(self) -> None:  # noqa: B027 - not abstract: there is nothing that a subclass would have to do
        """See Evaluator: all was measured when this was made."""

    def score(self, trial: int | None = None) -> Score:
        """See Evaluator: of the answers that the model gives now."""
        return self.score_of(self._total(trial, self.runner.generate(self.prompts, self.tokens)))

    def score_of(self, value: float) -> Score:
        """See AnswerEvaluator."""
        return Score(self.name, value, len(self.prompts), self._baseline, AnswerDetails(self.tokens), self.unit)

    def _total(self, trial: int | None, responses: Sequence["Response"]) -> float:
        """Sum of the weighted amounts."""
        texts = [response.text for response in responses]
        amounts = self.judge_all(list(zip(self.prompts, texts, strict=True)))
        for prompt, text, amount in zip(self.prompts, texts, amounts, strict=True):
            emit(ResponseMeasured(trial, prompt.user, text, self.describe(amount)))
        return sum(amounts) * self.weight


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

    def __init__(self, runner: "ModelRunner", prompts: PromptSet, options: EvaluatorOptions) -> None:
        self.strengthens = options.strengthens
        super().__init__(runner, prompts, options)

    def judge(self, text: str, complete: bool) -> float | None:
        """See AnswerEvaluator: only a whole answer can be measured."""
        return self._amount(text) if complete else None

    def judge_all(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See AnswerEvaluator."""
        return [self._amount(text) for _prompt, text in answers]

    def describe(self, amount: float) -> str:
        """See AnswerEvaluator."""
        return f"{amount:.1f} {self.unit}{' too few' if self.strengthens else ''}"

    def _amount(self, text: str) -> float:
        found = self.measure(text)
        return max(self.most - found, 0.0) if self.strengthens else found
