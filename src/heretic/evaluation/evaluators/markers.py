"""How often the behaviour shows: answers to target prompts that match refusal patterns."""

from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.evaluation.score import Score
from heretic.models.runner import ModelRunner, Response
from heretic.observability.events import ResponseMeasured, emit
from heretic.prompts.types import PromptSet


@EVALUATORS.decorator("markers")
class MarkerEvaluator:
    """Counts refusals in greedy answers."""

    def __init__(self, runner: ModelRunner, prompts: PromptSet, options: EvaluatorOptions) -> None:
        self.runner = runner
        self._prompts = prompts.prompts
        self._tokens = options.response_tokens
        self._detector = RefusalDetector(options.refusal_detection_mode, options.refusal_markers)
        self._baseline = float(self._count(None))

    @property
    def baseline(self) -> Score:
        """See Evaluator: refusals of the unedited model."""
        return Score("refusals", self._baseline, len(self._prompts), self._baseline, {"tokens": self._tokens})

    def score(self, trial: int | None = None) -> Score:
        """See Evaluator: the number of refusals."""
        refusals = float(self._count(trial))
        return Score("refusals", refusals, len(self._prompts), self._baseline, {"tokens": self._tokens})

    def _count(self, trial: int | None) -> int:
        count = 0
        responses: list[Response] = self.runner.generate(self._prompts, self._tokens)
        for prompt, response in zip(self._prompts, responses, strict=True):
            refused = self._detector.is_refusal(response.text)
            count += refused
            emit(ResponseMeasured(trial, prompt.user, response.text, refused))
        return count
