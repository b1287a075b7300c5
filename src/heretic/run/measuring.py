"""What a run measures, from its settings: the evaluators and what the search minimises of their scores."""

from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS, NO_READERS, READING, Evaluator, EvaluatorOptions, Readers
from heretic.evaluation.judge_model import load_judge
from heretic.evaluation.neural_detection import classifier_for
from heretic.passes.calibration import backing_off
from heretic.passes.runner import ModelRunner
from heretic.prompts.packs import Pack
from heretic.prompts.sets import PromptSets
from heretic.prompts.types import PromptSet
from heretic.results.objective import Objective
from heretic.run.rules import MARKERS


def load_readers(settings: Settings, prompts: PromptSets) -> Readers:
    """The models that read answers, as far as the run needs them, loaded before anything is measured.

    Raises:
        ConfigurationError: It cannot tell what it has to.
        ModelError: One is needed and cannot be loaded, or this machine has no such device.
    """
    by_classifier, by_judge = (
        next((own.pack.name for own in prompts.behaviors if own.pack.evaluator == kind), "") for kind in READING
    )
    return Readers(classifier_for(settings, by_classifier), load_judge(settings) if by_judge else None)


def search_objective(settings: Settings) -> Objective:
    """What the settings have a study minimise."""
    behaviors = len(settings.direction)
    if settings.optimization_mode == "multi":
        return Objective(behaviors=behaviors)
    return Objective(settings.kl_weight, settings.pruner == "bound", behaviors)


def behavior_options(settings: Settings, pack: Pack, readers: Readers = NO_READERS) -> EvaluatorOptions:
    """What the evaluator of one behaviour is told."""
    return EvaluatorOptions(settings, pack.options, pack.name, readers)


def make_evaluators(
    settings: Settings, runner: ModelRunner, prompts: PromptSets, readers: Readers = NO_READERS
) -> tuple[tuple[Evaluator, ...], Evaluator]:
    """The behaviours, each on its target's evaluation prompts, and KL on the baselines', with the unedited numbers.

    Where memory runs out an evaluator gets, and keeps, a smaller batch size.

    Raises:
        OutOfMemoryError: Not even one prompt at a time can be measured.
    """
    behaviors = tuple(
        make_behavior_evaluator(
            runner, own.pack.evaluator, own.bad_evaluation, behavior_options(settings, own.pack, readers)
        )
        for own in prompts.behaviors
    )
    kl, _runner = backing_off(
        runner,
        lambda fitting: EVALUATORS.get("kl")(fitting, prompts.good_evaluation, EvaluatorOptions(settings)),
        "recording the unedited model's predictions",
    )
    return behaviors, kl


def make_behavior_evaluator(runner: ModelRunner, name: str, prompts: PromptSet, options: EvaluatorOptions) -> Evaluator:
    """What measures one behaviour on these prompts, with the numbers of the model as it is.

    Args:
        runner: The model.
        name: The evaluator that the behaviour's pack names.
        prompts: What is asked.
        options: What the evaluator is told.

    Raises:
        OutOfMemoryError: Not even one prompt at a time can be measured.
        PluginError: There is no evaluator of that name.
    """
    reads = options.settings.use_neural_refusal_detection and options.readers.classifier is not None
    name = "neural" if name == MARKERS and reads else name
    evaluator, _runner = backing_off(
        runner,
        lambda fitting: EVALUATORS.get(name)(fitting, prompts, options),
        f"measuring the unedited model's {options.behavior}",
    )
    return evaluator
