"""`--evaluate-model Y`: score an already edited model Y against the model X that it was made from."""

from heretic.common.errors import ModelError, TrialFailed
from heretic.config import Settings
from heretic.evaluation.evaluator import Readers
from heretic.models.layout import find_layout
from heretic.models.loader import load_model, open_checkpoint
from heretic.observability.events import ModelCompared, emit
from heretic.passes.runner import ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.results.score import Scores
from heretic.run.measuring import Original, choose_passes, load_readers, measure_original
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
    original = _remembered(settings, base, prompts, readers)
    loaded = load_model(name, settings, checkpoint)
    edited = ModelRunner(loaded, find_layout(loaded.model), base.formatter, original.runner.calibration)
    try:
        scores = original.jobs(edited).present_scores(None, f"measuring {name}")
    except TrialFailed as error:
        raise ModelError(f"{name} cannot be compared because {error}; try --dtypes float32.") from error
    emit(ModelCompared(name, settings.model or "", scores))
    return scores


def _remembered(settings: Settings, base: ModelRunner, prompts: PromptSets, readers: Readers) -> Original:
    """What the other model is compared with. Emits BaselineMeasured.

    The ordered copies of the base's weights are gone when this returns, so that the other model has their place.
    """
    original = measure_original(settings, choose_passes(settings, base, prompts), prompts, readers)
    original.jobs(original.runner).remember()
    emit(original.measured)
    return original
