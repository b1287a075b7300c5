"""What a run depends on, as text that is compared with a stored study's."""

from dataclasses import replace

from heretic.adjusting.prepare import adjustments_identity
from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.evaluation.evaluator import NO_READERS, Readers
from heretic.extraction.extract import COMPARED_TEXTS, extractor_options, transform_options
from heretic.extraction.find import KnownRefinement, refinement_options
from heretic.models.fingerprint import parameter_fingerprint
from heretic.passes.runner import ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.run.direction_sources import loaded_identity
from heretic.run.measuring import behavior_options, evaluator_options, search_objective
from heretic.run.rules import MARKERS
from heretic.search.kept_directions import KeptDirections
from heretic.search.space import SearchSpace


def direction_identity(
    settings: Settings, runner: ModelRunner, prompts: PromptSets, directions: DirectionSet
) -> dict[str, str]:
    """What directions depend on, by aspect.

    Args:
        settings: The run's.
        runner: The model.
        prompts: The run's.
        directions: For what their provenance says of further texts.
    """
    calibration = runner.calibration
    compared = directions.provenance.get(COMPARED_TEXTS) or {}
    method = (
        f"{settings.direction_method} {extractor_options(settings)} {','.join(settings.transforms)} "
        f"{transform_options(settings)} all {settings.direction_source} {settings.iterative_rounds} "
        f"{settings.min_direction_magnitude} {settings.max_kl_per_round} "
        f"{' '.join(f'{role} {texts}' for role, texts in sorted(compared.items()))}"
    )
    refinement = refinement_options(settings)
    if refinement is not None:
        method += f" {refinement}"
    return {
        "model": parameter_fingerprint(runner.loaded.model),
        "number format": f"{calibration.dtype} {runner.loaded.quantization}",
        "set of training prompts": f"{prompts.good.fingerprint} {prompts.bad.fingerprint}",
        "response prefix": calibration.response_prefix,
        "way of finding directions": loaded_identity(settings, directions) or method,
    }


def study_identity(
    settings: Settings,
    runner: ModelRunner,
    prompts: PromptSets,
    directions: DirectionSet,
    space: SearchSpace,
    readers: Readers = NO_READERS,
) -> dict[str, str]:
    """What a stored study has to have in common with this run to be continued, by aspect."""
    return {
        **direction_identity(settings, runner, prompts, directions),
        "set of evaluation prompts": f"{prompts.good_evaluation.fingerprint} {prompts.bad_evaluation.fingerprint}",
        "way of measuring": _way_of_measuring(settings, prompts, readers),
        "search space": space.identity(),
        **adjustments_identity(settings),
        "objective": search_objective(settings).identity(),
    }


def _way_of_measuring(settings: Settings, prompts: PromptSets, readers: Readers) -> str:
    options = evaluator_options(settings, readers)
    packs = [behavior.pack for behavior in prompts.behaviors]
    if [pack.evaluator for pack in packs] == [MARKERS] and packs[0].options.tokens is None:
        return options.identity
    return "; ".join(f"{pack.evaluator} {behavior_options(options, pack).identity}" for pack in packs)


def kept_refinement(
    kept: KeptDirections | None, settings: Settings, runner: ModelRunner, prompts: PromptSets
) -> KnownRefinement:
    """Looks up whether a study keeps the refinement of these directions, found in just this way."""

    def find(directions: DirectionSet) -> DirectionSet | None:
        if kept is None:
            return None
        if not direction_identity(settings, runner, prompts, directions).items() <= kept.identity.items():
            return None
        return replace(kept.directions, provenance=directions.provenance).to(directions.vectors.device)

    return find
