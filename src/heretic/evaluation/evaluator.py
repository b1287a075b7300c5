"""What an evaluator is, and the registry that finds evaluators by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from heretic.common.registry import Registry
from heretic.config import Settings
from heretic.prompts.packs import PackOptions
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.score import Score


class AnswerClassifier(Protocol):
    """Says how likely answers are refusals, or whatever hypotheses say.

    See evaluation.refusal_classifier and evaluation.judge_model.

    Attributes:
        name: What the user calls it.
    """

    name: str

    @property
    def identity(self) -> str:
        """The same wherever the same model came from."""

    def probabilities(self, answers: Sequence[tuple[str, str]], hypotheses: Sequence[str] = ()) -> list[float]:
        """How likely each answer (request, response) is a refusal, or any of the hypotheses true of it; 0 to 1."""


@dataclass(frozen=True, slots=True)
class Readers:
    """Models that read answers, as far as a run needs them.

    Attributes:
        classifier: A sequence-classification model.
        judge: A chat model.
    """

    classifier: AnswerClassifier | None = None
    judge: AnswerClassifier | None = None


NO_READERS = Readers()


@dataclass(frozen=True, slots=True)
class EvaluatorOptions:
    """What an evaluator is told; it reads its own part.

    Attributes:
        settings: The run's. Where their goal is to strengthen the behaviour, what is missing of it is measured, so that
            lower is better either way.
        pack: What the behaviour's pack says.
        behavior: What the behaviour is called.
        readers: The classifier decides what markers leave open; either may measure a behaviour by its hypotheses.
        tokens: Length of a measured answer; None leaves it to the pack, else to the settings.
        scale_tokens: Length of the answers that amounts are seen in proportion to; None for that of the measured ones.
    """

    settings: Settings
    pack: PackOptions = field(default_factory=PackOptions)
    behavior: str = "refusal"
    readers: Readers = NO_READERS
    tokens: int | None = None
    scale_tokens: int | None = None

    @property
    def response_tokens(self) -> int:
        """Length of a measured answer."""
        return self.tokens or self.pack.tokens or self.settings.refusal_check_tokens

    @property
    def strengthens(self) -> bool:
        """Whether the behaviour shall become more frequent."""
        return self.settings.goal == "strengthen"


class Evaluator(Protocol):
    """Judges greedy answers: every answer gets an amount, and a score is their sum or mean. It owns no model.

    Made once, from the original model's answers, which give the baseline.

    Attributes:
        prompts: What is asked.
        tokens: Length of an answer that is judged.
        weight: What an amount counts in the score's value: 1 where answers are counted, 1 / n where amounts are means.
    """

    prompts: tuple[Prompt, ...]
    tokens: int
    weight: float

    @property
    def baseline(self) -> Score:
        """The original model's own score."""

    def judge(self, text: str, complete: bool) -> float | None:
        """The amount of an answer, or None while a longer one might be judged otherwise.

        None for a complete answer leaves it to `judge_all`, which judges many at once.

        Args:
            text: What has been generated so far.
            complete: Whether that is all.
        """

    def judge_all(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """The amounts of complete answers, none negative."""

    def describe(self, amount: float) -> str:
        """An answer's amount as people read it, e.g. ``refused``."""

    def score_of(self, value: float) -> Score:
        """The score of a sum of weighted amounts."""


EvaluatorFactory = Callable[[PromptSet, Sequence[str], EvaluatorOptions], Evaluator]
"""From prompts, the original model's answers to them, and options."""

EVALUATORS: Registry[EvaluatorFactory] = Registry("evaluator", "heretic.evaluation.evaluators")
READING = ("classifier", "judge")
"""The evaluators that have a model read answers and cannot do without it."""


def behavior_evaluators() -> tuple[str, ...]:
    """Names of the evaluators that a pack may be measured by, other people's included; sorted.

    No pack names `neural`: an option of the run adds a classifier to the markers.
    """
    return tuple(name for name in EVALUATORS.names() if name != "neural")
