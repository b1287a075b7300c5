"""`--evaluate-model Y`: score an already edited model Y against the model X that it was made from."""

import time

from heretic.common.errors import ModelError, TrialFailed
from heretic.config import Settings
from heretic.engine.factory import reference_jobs
from heretic.evaluation.evaluator import Evaluator, Readers
from heretic.evaluation.kl import KlEvaluator
from heretic.models.layout import find_layout
from heretic.models.loader import load_model, open_checkpoint
from heretic.observability.events import BaselineMeasured, ModelCompared, emit
from heretic.passes.runner import Calibration, ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.results.score import Scores
from heretic.run.measuring import choose_passes, load_readers, make_evaluators
from heretic.run.workbench import load_runner


def compare(settings: Settings, name: str, prompts: PromptSets) -> Scores:
    """Behaviours and KL of the model `name`, with `settings.model` as the base; emits ModelCompared.

    Both models are in memory while this runs.

    Raises:
        ModelError: The two models do not share a vocabulary, or the edited one's logits are not finite.
        UserError: The edited model's files are not those of its manifest.
    """
    # Before the base is loaded and measured, so that an edited model that cannot be used is said at once.
    checkpoint = open_checkpoint(name, settings, base=settings.model)
    readers = load_readers(settings, prompts)
    base = load_runner(settings, settings.model or "", prompts)
    if checkpoint.tokenizer.get_vocab() != base.loaded.tokenizer.get_vocab():
        raise ModelError(
            f"{name} and {settings.model} have different vocabularies, so their predictions cannot be compared; name "
            "the model that it was made from with --model."
        )
    behaviors, kl, ragged, calibration = _baseline(settings, base, prompts, readers)
    loaded = load_model(name, settings, checkpoint)
    edited = ModelRunner(loaded, find_layout(loaded.model), base.formatter, calibration)
    try:
        scores = reference_jobs(edited, behaviors, kl, ragged).present_scores(None, f"measuring {name}")
    except TrialFailed as error:
        raise ModelError(f"{name} cannot be compared because {error}; try --dtypes float32.") from error
    emit(ModelCompared(name, settings.model or "", scores))
    return scores


def _baseline(
    settings: Settings, base: ModelRunner, prompts: PromptSets, readers: Readers
) -> tuple[tuple[Evaluator, ...], KlEvaluator, bool, Calibration]:
    """Evaluators that remember the base, whether it was read by ragged passes, and what fitted. Emits BaselineMeasured.

    The ordered copies of its weights are gone when this returns, so that the other model has their place.
    """
    started = time.perf_counter()
    choice = choose_passes(settings, base, prompts)
    passes, ragged = choice.of_the_original, choice.forward is not None
    behaviors, kl = make_evaluators(settings, passes, prompts, readers)
    reference_jobs(passes.runner, behaviors, kl, ragged).remember()
    seconds = time.perf_counter() - started
    emit(BaselineMeasured(tuple(behavior.baseline for behavior in behaviors), kl.baseline.n, seconds))
    return behaviors, kl, ragged, passes.runner.calibration
