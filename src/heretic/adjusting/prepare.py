"""Making a run's adjustments once, before the search."""

import time
from collections.abc import Mapping
from dataclasses import replace

from heretic.adjusting.activation import calibrated_factors, factors_note
from heretic.adjusting.caa import compliance_shifts, shifts_note
from heretic.adjusting.circuits import find_circuits, head_masks, heads_note
from heretic.config import Settings
from heretic.directions.layers import range_factors
from heretic.editors.editor import Editor
from heretic.edits.build import UNADJUSTED, Adjustments, Shift, combined_factors
from heretic.edits.writer import ATTENTION, ModelLayout
from heretic.extraction.find import SearchDirections
from heretic.observability.events import PlansAdjusted, emit
from heretic.observability.steps import step
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import PromptSet


def make_adjustments(
    settings: Settings,
    runner: ModelRunner,
    target: PromptSet,
    baseline: PromptSet,
    searched: SearchDirections,
    editor: Editor,
    writers: Mapping[int, Shift],
) -> Adjustments:
    """What the settings ask for. Emits PlansAdjusted for each.

    Args:
        settings: Which adjustments, and their options.
        runner: The original model.
        target: Training prompts that show the behaviour.
        baseline: Training prompts that do not.
        searched: What is removed, and in which layers.
        editor: Gives the original weights.
        writers: From `adjusting.caa.shifting_writers`; used with `use_caa`.

    Raises:
        UserError: An adjustment is impossible on this model or these prompts; names the option.
    """
    directions = searched.directions
    adjustments = UNADJUSTED
    if settings.layer_profile:
        ranges = [(start, end, factor) for start, end, factor in settings.layer_profile]
        factors = range_factors(ranges, runner.layout.layer_count)
        adjustments = replace(adjustments, layer_factors=combined_factors(adjustments.layer_factors, factors))
        parts = ", ".join(f"{factor:g} from {start:g} to {end:g}" for start, end, factor in ranges)
        adjustments = _noted(adjustments, "Strengths", f"times {parts} of the depth", time.perf_counter())
    if settings.use_activation_calibration:
        started = time.perf_counter()
        factors = calibrated_factors(settings, runner, target, directions)
        adjustments = replace(adjustments, layer_factors=combined_factors(adjustments.layer_factors, factors))
        adjustments = _noted(adjustments, "Strengths", factors_note(factors), started)
    if settings.use_circuit_ablation:
        started = time.perf_counter()
        with step("finding heads"):
            heads = find_circuits(runner, target, baseline, directions, editor, settings.n_refusal_circuits)
        adjustments = replace(adjustments, input_masks=head_masks(heads))
        adjustments = _noted(adjustments, "Heads", heads_note(heads), started)
    if settings.use_caa:
        started = time.perf_counter()
        shifts = compliance_shifts(settings, runner, target, directions, dict(writers))
        adjustments = replace(adjustments, shifts=shifts)
        adjustments = _noted(adjustments, "Compliance", shifts_note(shifts, settings.caa_strength), started)
    return adjustments


def _noted(adjustments: Adjustments, name: str, note: str, started: float) -> Adjustments:
    emit(PlansAdjusted(name, note, time.perf_counter() - started))
    return replace(adjustments, notes=(*adjustments.notes, note))


def edited_components(settings: Settings, layout: ModelLayout) -> tuple[str, ...]:
    """The components that plans need strengths for: heads are attention alone."""
    return (ATTENTION,) if settings.use_circuit_ablation else layout.components
