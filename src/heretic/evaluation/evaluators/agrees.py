"""In how many answers the model agrees: those that are likelier to begin with yes than with no."""

from heretic.evaluation.evaluator import EVALUATORS
from heretic.evaluation.evaluators.agreement import UNDECIDED, WHOLE, AgreementEvaluator


@EVALUATORS.decorator("agrees")
class AgreesEvaluator(AgreementEvaluator):
    """Counts what `agreement` weighs."""

    unit = ""
    most = 1.0
    counted = "yes is likelier than no as their first token"
    counted_lacking = "no is at least as likely as yes as their first token"
    verdicts = ("agrees", "disagrees")

    def amount(self, text: str) -> float:
        """See Evaluator."""
        return float(super().amount(text) > WHOLE * UNDECIDED)
