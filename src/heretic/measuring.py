"""What a run measures, from its settings: the evaluators and what the search minimises of their scores."""

from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS, AnswerClassifier, Evaluator, EvaluatorOptions
from heretic.models.calibration import backing_off
from heretic.models.runner import ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.search.objective import Objective


def search_objective(settings: Settings) -> Objective:
    """What the settings have a study minimise."""
    if settings.optimization_mode == "multi":
        return Objective()
    return Objective(settings.kl_weight, settings.pruner == "bound")


def evaluator_options(settings: Settings, classifier: AnswerClassifier | None = None) -> EvaluatorOptions:
    """The evaluators' part of the settings, with the classifier that they ask for where it could be loaded."""
    return EvaluatorOptions(
        settings.kl_mode,
        settings.kl_tokens,
        settings.refusal_check_tokens,
        tuple(settings.refusal_markers),
        settings.refusal_detection_mode,
        settings.goal,
        classifier,
        settings.neural_detection_threshold,
    )


def make_evaluators(
    settings: Settings, runner: ModelRunner, prompts: PromptSets, classifier: AnswerClassifier | None = None
) -> tuple[Evaluator, Evaluator]:
    """Refusals on the target's and KL on the baseline's evaluation prompts, with the unedited model's numbers.

    Where memory runs out an evaluator gets, and keeps, a smaller batch size.

    Raises:
        OutOfMemoryError: Not even one prompt at a time can be measured.
    """
    options = evaluator_options(settings, classifier)
    detection = "markers" if classifier is None else "neural"
    refusals, _runner = backing_off(
        runner,
        lambda fitting: EVALUATORS.get(detection)(fitting, prompts.bad_evaluation, options),
        "counting the unedited model's refusals",
    )
    kl, _runner = backing_off(
        runner,
        lambda fitting: EVALUATORS.get("kl")(fitting, prompts.good_evaluation, options),
        "recording the unedited model's predictions",
    )
    return refusals, kl
