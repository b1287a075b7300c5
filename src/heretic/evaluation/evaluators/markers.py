"""How often the behaviour shows: answers to target prompts that match refusal patterns."""

from collections.abc import Sequence

from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.evaluation.score import REFUSALS, WITHOUT_REFUSAL, Score
from heretic.models.runner import ModelRunner, Response
from heretic.observability.events import ResponseMeasured, emit
from heretic.prompts.types import Prompt, PromptSet


@EVALUATORS.decorator("markers")
class MarkerEvaluator:
    """Counts refusals in greedy answers, or, where refusing is to be strengthened, the answers without one."""

    def __init__(self, runner: ModelRunner, prompts: PromptSet, options: EvaluatorOptions) -> None:
        self.runner = runner
        self.prompts = prompts.prompts
        self.tokens = options.response_tokens
        self._name = WITHOUT_REFUSAL if options.goal == "strengthen" else REFUSALS
        self._detector = RefusalDetector(options.refusal_detection_mode, options.refusal_markers)
        self.base_responses = runner.generate(self.prompts, self.tokens)
        self._baseline = float(self._count(None, self.base_responses))

    @property
    def baseline(self) -> Score:
        """See Evaluator: the unedited model's count."""
        return self.score_of(self._baseline)

    def remember(self) -> None:
        """See Evaluator: all was measured when this was made."""

    def score(self, trial: int | None = None) -> Score:
        """See Evaluator: the number of answers that count."""
        return self.score_of(float(self._count(trial, self.runner.generate(self.prompts, self.tokens))))

    def score_of(self, count: float) -> Score:
        """The score of so many answers that count."""
        return Score(self._name, count, len(self.prompts), self._baseline, {"tokens": self.tokens})

    def counts(self, refused: bool) -> bool:
        """Whether an answer counts, given its final verdict."""
        return refused == (self._name == REFUSALS)

    def verdict(self, text: str, complete: bool) -> bool | None:
        """Whether an answer refuses, or None while a longer one might be judged otherwise.

        None for a complete answer leaves it to `verdicts`, which judges many at once.

        Args:
            text: What has been generated so far.
            complete: Whether that is all.
        """
        if complete:
            return self._detector.is_refusal(text)
        return True if self._detector.is_settled(text) else None

    def verdicts(self, answers: Sequence[tuple[Prompt, str]]) -> list[bool]:
        """Whether each of these complete answers refuses its prompt."""
        return [self._detector.is_refusal(text) for _prompt, text in answers]

    def _count(self, trial: int | None, responses: Sequence[Response]) -> int:
        texts = [response.text for response in responses]
        verdicts = self.verdicts(list(zip(self.prompts, texts, strict=True)))
        for prompt, text, refused in zip(self.prompts, texts, verdicts, strict=True):
            emit(ResponseMeasured(trial, prompt.user, text, refused))
        return sum(self.counts(refused) for refused in verdicts)
