"""`--evaluate-model Y`: score an already edited model Y against the model X that it was made from."""

import time

from heretic.common.errors import ModelError, TrialFailed
from heretic.config import Settings
from heretic.engine.factory import reference_jobs
from heretic.models.layout import find_layout
from heretic.models.loader import load_model, open_checkpoint
from heretic.observability.events import BaselineMeasured, ModelCompared, emit
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.runner import ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.results.score import Scores
from heretic.run.measuring import load_readers, make_evaluators
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
    started = time.perf_counter()
    passes = OrdinaryPasses(base)
    behaviors, kl = make_evaluators(settings, passes, prompts, readers)
    reference_jobs(passes.runner, behaviors, kl).remember()
    seconds = time.perf_counter() - started
    emit(BaselineMeasured(tuple(behavior.baseline for behavior in behaviors), kl.baseline.n, seconds))
    loaded = load_model(name, settings, checkpoint)
    edited = ModelRunner(loaded, find_layout(loaded.model), base.formatter, passes.runner.calibration)
    try:
        scores = reference_jobs(edited, behaviors, kl).present_scores(None, f"measuring {name}")
    except TrialFailed as error:
        raise ModelError(f"{name} cannot be compared because {error}; try --dtypes float32.") from error
    emit(ModelCompared(name, settings.model or "", scores))
    return scores
