"""Where a study starts when strengths are first sought by gradient: found once, stored, tried before others."""

import time
from dataclasses import replace

import optuna

from heretic.edits.scalable import edits_of_strengths, scalable_edits
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.extraction.descent import DescentOptions, descend, step_count, weights_for
from heretic.extraction.gradient_objective import Objective
from heretic.extraction.onset import Onset, find_onset
from heretic.extraction.precision import for_gradients
from heretic.models.access import post_norm_gain
from heretic.observability.events import SeedingFinished, SeedingStarted, Warned, emit
from heretic.passes.calibration import backing_off
from heretic.passes.runner import ModelRunner
from heretic.results.plan import EditPlan
from heretic.run.workbench import Workbench
from heretic.search.seeds import SeededSpace, enqueue_seeds, seeded, store_seeds, stored_seeds
from heretic.search.storage import storage_errors


def with_seeds(bench: Workbench, study: optuna.Study) -> Workbench:
    """The workbench with a search space around the study's seeds, and these enqueued; found first where they are not.

    Without --gradient-seeding, and where no seeds can be found, the workbench as it is. Emits SeedingFinished.

    Raises:
        OutOfMemoryError: Not even one prompt at a time goes through.
        ModelError: The model's gradients are not finite.
    """
    settings = bench.settings
    if not settings.gradient_seeding or isinstance(bench.space, SeededSpace):
        return bench
    with storage_errors(settings.storage):
        plans = stored_seeds(study)
    started, stored = time.perf_counter(), plans is not None
    if plans is None:
        plans = find_seeds(bench)
    with storage_errors(settings.storage):
        if not stored:
            store_seeds(study, plans)
        space = seeded(bench.space, plans)
        if isinstance(space, SeededSpace):
            enqueue_seeds(study, space)
    emit(SeedingFinished(len(plans), time.perf_counter() - started, stored))
    return replace(bench, space=space)


def find_seeds(bench: Workbench) -> tuple[EditPlan, ...]:
    """One plan for each weight, from training prompts only; none, with a warning, where the behaviour has no onset.

    Raises:
        OutOfMemoryError: Not even one prompt at a time goes through.
        ModelError: The gradients are not finite.
    """
    settings, prompts = bench.settings, bench.prompts
    detector = RefusalDetector(settings.refusal_detection_mode, settings.refusal_markers)
    onset, runner = backing_off(
        bench.runner,
        lambda fitting: find_onset(
            fitting,
            prompts.good.prompts,
            prompts.bad.prompts,
            settings.gradient_seeding_prompts,
            settings.refusal_check_tokens,
            detector.is_refusal,
            wanted=settings.goal == "remove",
        ),
        "answering training prompts",
    )
    if isinstance(onset, str):
        emit(Warned(f"The search starts without gradient seeding, because {onset}."))
        return ()
    found: Onset = onset
    runner = for_gradients(runner)
    plans, _runner = backing_off(runner, lambda fitting: _descend(bench, fitting, found), "seeking strengths")
    return plans


def _descend(bench: Workbench, runner: ModelRunner, onset: Onset) -> tuple[EditPlan, ...]:
    settings, layout, model = bench.settings, runner.layout, runner.loaded.model
    edits = scalable_edits(
        bench.directions,
        layout,
        bench.space.normalization,
        bench.editor.pristine_weight,
        lambda writer: post_norm_gain(model, writer),
        bench.adjustments,
    )
    sign = -1.0 if settings.goal == "strengthen" else 1.0
    objective = Objective(runner, edits_of_strengths(edits, layout.components), onset, sign=sign)
    weights = weights_for(settings.gradient_seeding_starts)
    options = DescentOptions(weights, settings.gradient_seeding_steps, sign=sign)
    tokens = tuple(str(runner.loaded.tokenizer.decode([token])) for token in onset.tokens)
    emit(
        SeedingStarted(
            step_count(options),
            len(onset.good),
            len(onset.bad),
            tokens,
            objective.shared_tokens,
            runner.calibration.dtype,
        )
    )
    return descend(objective, layout.components, layout.layer_count, bench.space.normalization, options)
