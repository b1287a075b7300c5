"""One extraction: statistics of both classes, the extractor, and the transforms."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from heretic.config import Settings
from heretic.directions.extractor import EXTRACTORS
from heretic.directions.statistics import ResidualMoments
from heretic.directions.transform import TRANSFORMS, TransformContext
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.passes.passes import Passes
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
    passes: Passes, prompts: PromptSet, with_second_moment: bool = False, with_residuals: bool = False
) -> ResidualStatistics:
    """Stream the residuals of one prompt set."""

    def collect(batches: Iterator[Tensor]) -> ResidualStatistics:
        moments = ResidualMoments(with_second_moment, with_residuals)
        for residuals in batches:
            moments.update(residuals)
        return moments.finish(prompts.fingerprint)

    rows = [passes.runner.encode(prompt) for prompt in prompts.prompts]
    return passes.residuals(rows, collect, "collecting residuals")


def extract(settings: Settings, passes: Passes, target: PromptSet, baseline: PromptSet) -> Extraction:
    """Extract from the model as it is now.

    Args:
        settings: The method and its options.
        passes: Read the model.
        target: Training prompts that show the behaviour.
        baseline: Training prompts that do not.

    Raises:
        ConfigurationError: The method does not work on these prompts; the message names the option to change.
    """
    method = EXTRACTORS.get(settings.direction_method)
    needs = (method.needs_second_moment, method.needs_residuals)
    of_target = collect_statistics(passes, target, *needs)
    of_baseline = collect_statistics(passes, baseline, *needs)
    extracted = method.extract(of_target, of_baseline, settings)
    compared: dict[str, str] = {}

    def statistics(role: str) -> ResidualStatistics:
        default = Settings.model_fields[role].default
        texts = load_compared_texts(role, getattr(settings, role), default, settings.system_prompt)
        compared[role] = texts.fingerprint
        return collect_statistics(passes, texts, with_residuals=True)

    context = TransformContext(of_target, of_baseline, statistics)
    directions = extracted
    for name in settings.transforms:
        directions = TRANSFORMS.get(name)(directions, context, settings)
    directions = replace(directions, provenance={**directions.provenance, COMPARED_TEXTS: compared})
    return Extraction(directions, of_target, of_baseline)
