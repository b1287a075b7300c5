"""What an evaluator is, and the registry that finds evaluators by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from heretic.evaluation.score import Score
from heretic.models.runner import ModelRunner
from heretic.prompts.types import PromptSet
from heretic.registry import Registry


@dataclass(frozen=True, slots=True)
class EvaluatorOptions:
    """Options that evaluators read.

    Attributes:
        kl_mode: ``sequence`` or ``first``.
        kl_tokens: Response tokens that sequence KL is teacher-forced over.
        response_tokens: Length of a measured answer.
        refusal_markers: Phrases that replace the built-in patterns; empty for the built-in ones.
        refusal_detection_mode: ``strict``, ``moderate`` or ``lenient``.
        goal: ``remove`` counts answers that refuse, ``strengthen`` those that do not: lower is better either way.
    """

    kl_mode: str = "sequence"
    kl_tokens: int = 30
    response_tokens: int = 30
    refusal_markers: tuple[str, ...] = ()
    refusal_detection_mode: str = "lenient"
    goal: str = "remove"


class Evaluator(Protocol):
    """Made once on the unedited model (it measures its baseline then), asked for a score after every edit.

    Attributes:
        runner: The model that `score` measures; another one may be set to compare two models.
    """

    runner: ModelRunner

    @property
    def baseline(self) -> Score:
        """The unedited model's own score."""

    def remember(self) -> None:
        """Measure what `score` compares with, once, while the model is unedited.

        Raises:
            ModelError: The unedited model cannot be measured.
        """

    def score(self, trial: int | None = None) -> Score:
        """Measure the model as it is now; `trial` is named in events.

        Raises:
            TrialFailed: The model cannot be measured, e.g. its logits are not finite.
        """


EvaluatorFactory = Callable[[ModelRunner, PromptSet, EvaluatorOptions], Evaluator]

EVALUATORS: Registry[EvaluatorFactory] = Registry("evaluator", "heretic.evaluation.evaluators")
