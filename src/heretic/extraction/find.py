"""Directions of a run: one extraction or several rounds, and which layers and which position they are used at."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from heretic.common.errors import ModelError, OutOfMemoryError
from heretic.config import Settings
from heretic.directions.extractor import EXTRACTORS
from heretic.directions.types import DirectionSet
from heretic.editors.output_space import OutputSpaceEditor
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.extraction.cosmic import cosmic_scores
from heretic.extraction.extract import Extraction, extract
from heretic.extraction.refinement import refined
from heretic.extraction.rounds import further_rounds
from heretic.observability.events import DirectionsFound, PositionChosen, RefinementKept, Warned, emit
from heretic.observability.steps import step
from heretic.passes.choose import Choice, choose, ordinary_wanted
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet

COSMIC_DEPTHS = (0.3, 0.9)
"""Relative depth of the layers that COSMIC compares: those whose direction the search tries as well."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchDirections:
    """What is searched with.

    Attributes:
        directions: After the transforms, of all rounds.
        position: Relative depth of the direction that all layers lose; None leaves the choice to the search.
    """

    directions: DirectionSet
    position: float | None = None


StoredRefinement = Callable[[DirectionSet], DirectionSet | None]
"""From directions before they are refined to what an earlier run made of them, or None."""


def nothing_stored(_directions: DirectionSet) -> DirectionSet | None:
    """A StoredRefinement for a study that begins."""
    return None


def find_directions(
    settings: Settings,
    runner: ModelRunner,
    target: PromptSet,
    baseline: PromptSet,
    stored: StoredRefinement = nothing_stored,
) -> SearchDirections:
    """Everything that the settings of the direction ask for. Emits DirectionsFound.

    Args:
        settings: The run's.
        runner: The original model; it is unedited again afterwards.
        target: Training prompts that show the behaviour.
        baseline: Training prompts that do not.
        stored: Asked before directions are refined.

    Raises:
        HereticError: The method does not work on these prompts; the message names the option to change.
    """
    started = time.perf_counter()
    choice = _chosen(settings, runner, (*target.prompts, *baseline.prompts))
    passes = choice.of_the_original
    with step("extracting directions"):
        first = extract(settings, passes, target, baseline)
    if refines(settings):
        stored_directions = stored(first.directions)
        if stored_directions is not None:
            emit(RefinementKept())
        refinement = stored_directions or _refined(settings, choice, first.directions, target, baseline)
        first = replace(first, directions=refinement)
    directions = first.directions
    if settings.iterative_rounds > 1:
        directions = further_rounds(
            runner,
            first,
            lambda: extract(settings, passes, target, baseline),
            OutputSpaceEditor(runner.loaded.model, runner.layout),
            baseline.prompts,
            settings,
        )
    # Whatever comes next looks at the weights themselves.
    choice.give_back_order()
    emit(
        DirectionsFound(
            directions.method,
            directions.count_per_layer,
            tuple(directions.quality.tolist()),
            time.perf_counter() - started,
        )
    )
    position = None
    if settings.direction_source == "cosmic":
        position = cosmic_position(runner, first, target, baseline)
    return SearchDirections(directions, position)


def _chosen(settings: Settings, runner: ModelRunner, prompts: Sequence[Prompt]) -> Choice:
    """How training prompts are read, with the answers behind them where directions are refined."""
    rows = [runner.encode(prompt) for prompt in prompts]
    written = settings.refusal_check_tokens if refines(settings) else 0
    unless = ordinary_wanted(settings)
    # What the settings ask for is said with the engine.
    doing = "" if unless else "reading training prompts"
    return choose(runner, rows, max(map(len, rows)) + written, unless, doing)


def refines(settings: Settings) -> bool:
    """Whether directions are refined by gradient once they are extracted."""
    return EXTRACTORS.get(settings.direction_method).refined


def _refined(
    settings: Settings,
    choice: Choice,
    directions: DirectionSet,
    target: PromptSet,
    baseline: PromptSet,
) -> DirectionSet:
    """The directions, refined; as they are, with a warning, where nobody asked for it and it cannot be done."""
    shows = RefusalDetector(settings).is_refusal
    try:
        return refined(settings, choice, directions, baseline.prompts, target.prompts, shows)
    except (OutOfMemoryError, ModelError) as error:
        if settings.extractor is not None:
            raise
        emit(Warned(f"The directions are not refined, because that failed: {error}"))
        return directions


def cosmic_position(runner: ModelRunner, extraction: Extraction, target: PromptSet, baseline: PromptSet) -> float:
    """Relative depth of the direction that COSMIC scores highest. Emits PositionChosen."""
    started = time.perf_counter()
    count = runner.layout.layer_count
    depth = max(count - 1, 1)
    low, high = COSMIC_DEPTHS
    layers = [layer for layer in range(count) if low <= layer / depth <= high] or [count - 1]
    with step("scoring layers"):
        scores = cosmic_scores(
            runner,
            extraction.directions,
            (extraction.target, target.prompts),
            (extraction.baseline, baseline.prompts),
            OutputSpaceEditor(runner.loaded.model, runner.layout),
            layers,
        )
    by_layer = dict(zip(layers, scores, strict=True))
    best = max(layers, key=lambda layer: by_layer[layer])
    emit(PositionChosen(best, by_layer, time.perf_counter() - started))
    return best / depth
