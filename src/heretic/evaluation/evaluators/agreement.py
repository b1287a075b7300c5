"""How far the model agrees: the probability of yes, beside no, as the first token of its answer."""

import re
from collections.abc import Sequence
from dataclasses import replace

from heretic.evaluation.evaluator import EVALUATORS, Evaluator, EvaluatorOptions
from heretic.prompts.types import PromptSet

WHOLE = 100.0
"""A certain yes: amounts are percentages."""
UNDECIDED = 0.5
"""The share of yes in an answer that says neither."""
_TOLD = "yes with a probability of {!r}"
_READ = re.compile(r"yes with a probability of (\d[\d.e-]*)")
_SPOKEN = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


@EVALUATORS.decorator("agreement")
class AgreementEvaluator(Evaluator):
    """Mean probability of yes among yes and no, in percent: the log-odds of both through a logistic function.

    Of claims that are false it is less where the model contradicts; of the same claims turned true, which a pack keeps,
    it is to stay.
    """

    predicted = True
    unit = "% yes"
    most = WHOLE

    def __init__(self, prompts: PromptSet, answers: Sequence[str], options: EvaluatorOptions) -> None:
        super().__init__(prompts, answers, replace(options, tokens=1))

    def amount(self, text: str) -> float:
        """See Evaluator."""
        return WHOLE * said(text)


# Here and not beside `yes_no`, which tells them: to check a pack imports its evaluator, and should not import torch.
def told(share: float) -> str:
    """The answer that tells the probability of yes."""
    return _TOLD.format(share)


def said(text: str) -> float:
    """The probability of yes that an answer tells; of any other answer 1 where it begins with yes, 0 with no."""
    told_share = _READ.fullmatch(text)
    if told_share:
        return float(told_share[1])
    spoken = _SPOKEN.match(text)
    return float(spoken[1].lower() == "yes") if spoken else UNDECIDED
