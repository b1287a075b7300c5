"""One extraction: statistics of both classes, the extractor, and the transforms."""

from dataclasses import dataclass, replace

from heretic.config import Settings
from heretic.directions.extractor import EXTRACTORS
from heretic.directions.statistics import ResidualMoments
from heretic.directions.transform import TRANSFORMS, TransformContext
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.passes.calibration import backing_off
from heretic.passes.runner import ModelRunner
from heretic.prompts.stand_ins import load_compared_texts
from heretic.prompts.types import PromptSet

COMPARED_TEXTS = "compared_texts"
"""In the provenance: fingerprints of the texts that transforms asked for, by setting."""


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """What one extraction found.

    Attributes:
        directions: After the transforms.
        target: Statistics of the prompts that show the behaviour.
        baseline: Statistics of the prompts that do not.
    """

    directions: DirectionSet
    target: ResidualStatistics
    baseline: ResidualStatistics


def collect_statistics(
    runner: ModelRunner, prompts: PromptSet, with_second_moment: bool = False, with_residuals: bool = False
) -> tuple[ResidualStatistics, ModelRunner]:
    """Stream the residuals of one prompt set; also the runner whose batch size fitted into memory."""

    def collect(fitting: ModelRunner) -> ResidualStatistics:
        moments = ResidualMoments(with_second_moment, with_residuals)
        for residuals in fitting.residuals(prompts.prompts):
            moments.update(residuals)
        return moments.finish(prompts.fingerprint)

    return backing_off(runner, collect, "collecting residuals")


def extract(settings: Settings, runner: ModelRunner, target: PromptSet, baseline: PromptSet) -> Extraction:
    """Extract from the model as it is now.

    Args:
        settings: The method and its options.
        runner: The model.
        target: Training prompts that show the behaviour.
        baseline: Training prompts that do not.

    Raises:
        ConfigurationError: The method does not work on these prompts; the message names the option to change.
    """
    method = EXTRACTORS.get(settings.direction_method)
    needs = (method.needs_second_moment, method.needs_residuals)
    of_target, runner = collect_statistics(runner, target, *needs)
    of_baseline, runner = collect_statistics(runner, baseline, *needs)
    extracted = method.extract(of_target, of_baseline, settings)
    compared: dict[str, str] = {}

    def statistics(role: str) -> ResidualStatistics:
        default = Settings.model_fields[role].default
        texts = load_compared_texts(role, getattr(settings, role), default, settings.system_prompt)
        compared[role] = texts.fingerprint
        return collect_statistics(runner, texts, with_residuals=True)[0]

    context = TransformContext(of_target, of_baseline, statistics)
    directions = extracted
    for name in settings.transforms:
        directions = TRANSFORMS.get(name)(directions, context, settings)
    directions = replace(directions, provenance={**directions.provenance, COMPARED_TEXTS: compared})
    return Extraction(directions, of_target, of_baseline)
