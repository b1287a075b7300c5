"""How often the model refuses: answers to target prompts that match refusal patterns."""

from collections.abc import Sequence

from heretic.evaluation.answers import Answers
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.score import REFUSALS, WITHOUT_REFUSAL


@EVALUATORS.decorator("markers")
class MarkerEvaluator(Answers):
    """Counts refusals in greedy answers, or, where refusing is to be strengthened, the answers without one."""

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        self.name = WITHOUT_REFUSAL if options.strengthens else REFUSALS
        self._detector = RefusalDetector(options.settings)
        super().__init__(prompts, answers, options)

    def judge(self, text: str, complete: bool) -> float | None:
        """See Evaluator: a marker's verdict is final."""
        if complete:
            return self._amount(self._detector.is_refusal(text))
        return self._amount(True) if self._detector.is_settled(text) else None

    def judge_all(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See Evaluator."""
        return [self._amount(refused) for refused in self.refusals(answers)]

    def refusals(self, answers: Sequence[tuple[Prompt, str]]) -> list[bool]:
        """Whether each of these complete answers refuses its prompt."""
        return [self._detector.is_refusal(text) for _prompt, text in answers]

    def describe(self, amount: float) -> str:
        """See Evaluator."""
        return "refused" if (amount > 0) == (self.name == REFUSALS) else "answered"

    def _amount(self, refused: bool) -> float:
        return float(refused == (self.name == REFUSALS))
