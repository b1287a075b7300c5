"""The classifier of answers that the settings name; a run goes on with markers where these can do without it."""

import sys

from heretic.common.errors import ModelError
from heretic.config import Settings
from heretic.evaluation.evaluator import READERS, ReaderKind
from heretic.evaluation.refusal_classifier import RefusalClassifier, load_refusal_classifier
from heretic.models.devices import pick_device
from heretic.models.loader import quieten_libraries
from heretic.observability.events import ModelLoading, Warned, emit


def classifier_for(settings: Settings, needed_by: str = "") -> RefusalClassifier | None:
    """Load the classifier before anything is measured. Emits ModelLoading, and Warned where that fails.

    Args:
        settings: Which one, and where it computes.
        needed_by: The behaviour that cannot be measured without it; empty where markers can do alone.

    Returns:
        None where it cannot be loaded and markers can do without.

    Raises:
        ConfigurationError: It is no classifier of refusals.
        ModelError: This machine has no such device, or it is needed and cannot be loaded.
    """
    name = settings.neural_detection_model
    device_named = settings.neural_detection_device != "auto"
    device = (
        pick_device(settings.neural_detection_device, "--neural-detection-device")
        if device_named
        else pick_device(settings.device)
    )
    emit(ModelLoading(name, "float32"))
    quieten_libraries(show_downloads=sys.stderr.isatty())
    try:
        return load_refusal_classifier(name, device, settings.neural_detection_batch_size, settings.verify)
    except ModelError as error:
        reason = str(error).removesuffix(".")
        if needed_by:
            raise ModelError(
                f"{needed_by} is measured by a classifier, and {name} cannot be loaded ({reason}); name another one "
                "with --neural-detection-model."
            ) from error
        emit(Warned(f"Markers alone detect refusals, because {name} cannot be loaded: {reason}."))
    return None


READERS.register("classifier", ReaderKind(lambda _settings, _behavior: "", classifier_for))
