"""Workbench: one prepared model with everything that measuring and editing it needs.

`prepare` is the first half of the main path (load, lay out, calibrate, extract, measure the baseline); the methods are
what the second half (search, choice, saving, chat) asks for.
"""

import gc
import time
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from heretic.adjusting.caa import shifting_writers
from heretic.adjusting.prepare import edited_components, make_adjustments
from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.editors.cache import DiskSource, PristineSource, WeightCache
from heretic.editors.editor import Editor
from heretic.editors.inplace import InplaceEditor
from heretic.editors.output_space import OutputSpaceEditor
from heretic.edits.algebra import Edit
from heretic.edits.build import UNADJUSTED, Adjustments, build_edits
from heretic.engine.engine import BuildEdits, Engine
from heretic.engine.factory import EngineOptions, make_engine
from heretic.evaluation.evaluator import Evaluator, Readers
from heretic.models.access import post_norm_gain
from heretic.models.biases import hold_biases, match_biases
from heretic.models.chat_template import ChatFormatter
from heretic.models.layout import find_layout, layout_summary
from heretic.models.loaded import LoadedModel
from heretic.models.loader import load_model
from heretic.observability.events import (
    BaselineMeasured,
    Calibrated,
    LayoutFound,
    Warned,
    emit,
)
from heretic.passes.calibration import backing_off, find_batch_size, find_response_prefix
from heretic.passes.choose import ordinary_wanted
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.runner import Calibration, ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.results.objective import Objective
from heretic.results.plan import EditPlan, Normalization
from heretic.run.direction_sources import obtain_all_directions
from heretic.run.identity import kept_refinement, study_identity
from heretic.run.measuring import load_readers, make_evaluators, search_objective
from heretic.search.identity import Identity
from heretic.search.kept_directions import KeptDirections
from heretic.search.space import PEAK_WEIGHTS, SearchSpace

NOTHING_TO_DO = {
    "remove": "The unedited model shows no {} on the evaluation prompts, so there is nothing to remove.",
    "strengthen": "The unedited model shows all the {} that is counted, so there is nothing to strengthen.",
}
"""By goal: what is said where the unedited model's value is 0."""
PREFIX_PROMPTS = 32
"""Prompts of each set whose answers are compared when a common prefix is looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Workbench:
    """A prepared model. The weights are unedited between calls unless `editor.apply` was called."""

    settings: Settings
    prompts: PromptSets
    runner: ModelRunner
    directions: DirectionSet
    adjustments: Adjustments
    editor: Editor
    behaviors: tuple[Evaluator, ...]
    engine: Engine
    space: SearchSpace
    identity: Identity
    readers: Readers

    @property
    def objective(self) -> Objective:
        """What the search minimises."""
        return search_objective(self.settings)

    @property
    def loaded(self) -> LoadedModel:
        """The model and its tokenizer."""
        return self.runner.loaded

    def edits(self, plan: EditPlan) -> tuple[Edit, ...]:
        """The edits that a plan stands for on this model."""
        return edit_builder(self.runner, self.directions, self.editor, self.adjustments)(plan)


def prepare(settings: Settings, prompts: PromptSets, kept: KeptDirections | None = None) -> Workbench:
    """Load and measure everything that does not depend on a trial.

    Args:
        settings: The run's.
        prompts: The run's, see `run.preflight`.
        kept: Refined directions that the run's study keeps from an earlier run.

    Raises:
        HereticError: Something the user gave cannot be used; the message says what to do.
    """
    # Before the model, so that one that cannot serve is said at once, and that calibration sees the memory they take.
    readers = load_readers(settings, prompts)
    runner = load_runner(settings, settings.model or "", prompts)
    # First, so that a model that cannot hold biases is refused at once, and so that the editor knows them.
    runner, shifting = shifting_writers(runner, prompts.bad.prompts[0]) if settings.use_caa else (runner, {})
    editor = make_editor(settings, runner)
    found = obtain_all_directions(settings, runner, prompts, kept_refinement(kept, settings, runner, prompts))
    directions = found.directions
    adjustments = make_adjustments(settings, runner, prompts.bad, prompts.good, found, editor, shifting)
    if settings.compile:
        # After the extraction: its hooks on every layer would break the compiled graph apart.
        # Batches differ in length: without `dynamic` every length would be compiled for itself.
        runner.loaded.model.compile(dynamic=True)
    started = time.perf_counter()
    passes = OrdinaryPasses(runner)
    behaviors, kl = make_evaluators(settings, passes, prompts, readers)
    baselines = tuple(own.baseline for own in behaviors)
    emit(BaselineMeasured(baselines, kl.baseline.n, time.perf_counter() - started))
    for behavior, score in zip(prompts.behaviors, baselines, strict=True):
        if score.value == 0:
            emit(Warned(NOTHING_TO_DO[settings.goal].format(behavior.pack.name)))
    space = search_space(settings, runner, found.position)
    identity = study_identity(settings, runner, prompts, directions, space, readers)
    build = edit_builder(runner, directions, editor, adjustments)
    options, unless = EngineOptions(settings.candidates), ordinary_wanted(settings)
    engine = make_engine(passes.runner, build, editor, behaviors, kl, options, unless)
    return Workbench(
        settings, prompts, runner, directions, adjustments, editor, behaviors, engine, space, identity, readers
    )


def search_space(settings: Settings, runner: ModelRunner, position: float | None) -> SearchSpace:
    """Where the plans of a run come from; with a position all layers lose the direction found there."""
    return SearchSpace(
        edited_components(settings, runner.layout),
        Normalization(settings.normalization),
        position,
        peak_weight=PEAK_WEIGHTS[settings.goal],
        behaviors=len(settings.direction),
    )


def edit_builder(
    runner: ModelRunner, directions: DirectionSet, editor: Editor, adjustments: Adjustments = UNADJUSTED
) -> BuildEdits:
    """From plans to edits of one model, while it is unedited or the editor remembers what it was."""
    model, layout = runner.loaded.model, runner.layout

    def build(plan: EditPlan) -> tuple[Edit, ...]:
        return build_edits(
            plan, directions, layout, editor.pristine_weight, lambda writer: post_norm_gain(model, writer), adjustments
        )

    return build


def load_runner(settings: Settings, name: str, prompts: PromptSets) -> ModelRunner:
    """Load a model, find its layout, and calibrate batch size and response prefix."""
    loaded = load_model(name, settings)
    layout = find_layout(loaded.model)
    emit(
        LayoutFound(
            layout.family,
            layout.layer_count,
            layout.hidden_size,
            layout_summary(layout),
            tuple(f"{writer.path}: {writer.reason}" for writer in layout.uneditable),
        )
    )
    calibration = Calibration(settings.batch_size or 1, settings.response_prefix or "", loaded.dtype)
    runner = ModelRunner(loaded, layout, ChatFormatter(loaded.tokenizer), calibration)
    if settings.batch_size == 0:
        measured = (*prompts.bad_evaluation.prompts, *prompts.good_evaluation.prompts)
        compared_tokens = 1 if settings.kl_mode == "first" else settings.kl_tokens
        size = find_batch_size(runner, measured, settings.max_batch_size, compared_tokens)
        runner = runner.calibrated(batch_size=size)
    if settings.response_prefix is None:
        compared = (*prompts.good.prompts[:PREFIX_PROMPTS], *prompts.bad.prompts[:PREFIX_PROMPTS])
        prefix, _smaller = backing_off(
            runner, lambda fitting: find_response_prefix(fitting, compared), "looking for a common response prefix"
        )
        runner = runner.calibrated(response_prefix=prefix)
    emit(Calibrated(runner.calibration.batch_size, runner.calibration.response_prefix))
    return runner


def make_editor(settings: Settings, runner: ModelRunner) -> Editor:
    """In-place editing with a restore cache; output space where weights are quantised and cannot be written to."""
    model, layout = runner.loaded.model, runner.layout
    if runner.loaded.quantization != "none":
        return OutputSpaceEditor(model, layout)
    if settings.cache_weights:
        return InplaceEditor(model, layout, WeightCache.capture(model, layout))
    return InplaceEditor(model, layout, disk_source(settings, runner.loaded))


def disk_source(settings: Settings, loaded: LoadedModel) -> PristineSource:
    """Unedited weights from the place that the model came from, loaded into host memory with the accepted dtype."""
    # Verified once: this runs for every edit that is undone.
    again = settings.model_copy(
        update={"device": "cpu", "device_map": "cpu", "dtypes": [loaded.dtype], "verify": False}
    )

    def load() -> PreTrainedModel:
        fresh = load_model(loaded.name, again).model
        match_biases(fresh, loaded.model)
        return fresh

    return DiskSource(load)


def full_precision(bench: Workbench) -> Workbench:
    """The same workbench on weights that can be written to: a quantised model is loaded again without quantisation.

    Both models are in memory while this runs, the new one in host memory.
    """
    if bench.loaded.quantization == "none":
        return bench
    settings = bench.settings.model_copy(update={"quantization": "none", "device": "cpu", "device_map": "cpu"})
    loaded = load_model(bench.loaded.name, settings)
    paths = [shift.path for shift in bench.adjustments.shifts.values()]
    layout = hold_biases(loaded.model, find_layout(loaded.model), paths)
    runner = ModelRunner(loaded, layout, ChatFormatter(loaded.tokenizer), bench.runner.calibration)
    gc.collect()
    editor = InplaceEditor(loaded.model, layout, WeightCache.capture(loaded.model, layout))
    directions = bench.directions.to(torch.device("cpu"))
    return replace(bench, settings=settings, runner=runner, editor=editor, directions=directions)
