"""Workbench: one prepared model with everything that measuring and editing it needs.

`prepare` is the first half of the main path (load, lay out, calibrate, extract, measure the baseline); the methods are
what the second half (search, choice, saving, chat) asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from heretic.adjusting.caa import shifting_writers
from heretic.adjusting.prepare import edited_components, make_adjustments
from heretic.common.errors import UserError
from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.editors.cache import WeightCache
from heretic.editors.editor import Editor
from heretic.editors.inplace import InplaceEditor
from heretic.editors.originals import original_weights
from heretic.editors.output_space import OutputSpaceEditor
from heretic.edits.algebra import Edit
from heretic.edits.build import UNADJUSTED, Adjustments, Shift, build_edits
from heretic.engine.engine import BuildEdits, Engine
from heretic.engine.factory import EngineOptions, make_engine
from heretic.evaluation.evaluator import LITTLE, Evaluator, Readers
from heretic.extraction.find import SearchDirections
from heretic.models.access import post_norm_gain
from heretic.models.chat_template import ChatFormatter
from heretic.models.host_memory import give_back_freed
from heretic.models.layout import find_layout, layout_summary
from heretic.models.loaded import LoadedModel
from heretic.models.loader import load_model
from heretic.models.private_api import compile_obstacle
from heretic.observability.events import (
    Calibrated,
    LayoutFound,
    NothingShown,
    Warned,
    emit,
)
from heretic.observability.steps import step
from heretic.passes.calibration import backing_off, choose_threads, find_batch_size, find_response_prefix
from heretic.passes.choose import ordinary_wanted
from heretic.passes.runner import Calibration, ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.results import words
from heretic.results.objective import Objective
from heretic.results.plan import EditPlan, Normalization
from heretic.results.score import Score
from heretic.run.direction_sources import obtain_all_directions
from heretic.run.identity import stored_refinement, study_identity
from heretic.run.kept_calibration import KeptCalibration, conditions
from heretic.run.measuring import Measuring, Original, choose_passes, load_readers, measure_original, search_objective
from heretic.search.space import PEAK_WEIGHTS, SearchSpace
from heretic.search.storage import Identity
from heretic.search.stored_directions import StoredDirections

NOTHING_TO_DO = {
    "remove": "The original model shows no {} on the evaluation prompts, so there is nothing to remove.",
    "strengthen": "The original model shows all the {} that is counted, so there is nothing to strengthen.",
}
"""By goal: what is said where the original model's value is 0."""
LITTLE_TO_DO = {
    "remove": "The original model shows little {} on the evaluation prompts ({}): there is little to remove.",
    "strengthen": "The original model lacks little {} on the evaluation prompts ({}): there is little to strengthen.",
}
"""By goal: what is said where it is less than a tenth of what an answer can show."""
NEXT_STEP = (
    "If these answers say otherwise, {}; else choose other evaluation prompts. The search can go on, but no trial can "
    "do much better in this."
)
"""What stands behind the original model's answers then."""
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
    measuring: Measuring
    space: SearchSpace
    identity: Identity
    readers: Readers
    conditions: str

    @property
    def behaviors(self) -> tuple[Evaluator, ...]:
        """The evaluators of the behaviours, each with the original model's baseline."""
        return self.measuring.results[0].behaviors

    @property
    def kept(self) -> tuple[Evaluator, ...]:
        """Those of answers that have to stay what they are."""
        return self.measuring.results[0].kept

    @property
    def baselines(self) -> tuple[Score, ...]:
        """What was found of the original model's answers."""
        return self.measuring.results[0].baselines

    @property
    def engine(self) -> Engine:
        """What measures edits."""
        return self.measuring.results[1]

    @property
    def calibrated(self) -> KeptCalibration:
        """What calibration found."""
        return KeptCalibration(
            self.conditions,
            self.runner.calibration.batch_size,
            self.runner.calibration.response_prefix,
            torch.get_num_threads() if self.loaded.device.type == "cpu" else 0,
            self.engine.candidates,
        )

    def rest(self) -> None:
        """Let the weights be as they are stored, whatever form trials are measured in."""
        if self.measuring.is_done:
            self.engine.rest()

    @property
    def objective(self) -> Objective:
        """What the search minimises."""
        return search_objective(self.settings, [kept.pack.name for kept in self.prompts.kept])

    @property
    def hardly_shown(self) -> tuple[str, ...]:
        """Names of the behaviours of which the original model leaves a search little to do."""
        pairs = zip(self.prompts.behaviors, self.behaviors, strict=True)
        return tuple(behavior.pack.name for behavior, evaluator in pairs if evaluator.room < LITTLE)

    @property
    def loaded(self) -> LoadedModel:
        """The model and its tokenizer."""
        return self.runner.loaded

    def edits(self, plan: EditPlan) -> tuple[Edit, ...]:
        """The edits that a plan stands for on this model."""
        return edit_builder(self.runner, self.directions, self.editor, self.adjustments)(plan)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What the first step makes: the model and what edits it.

    Attributes:
        readers: Models that read answers.
        runner: The model, calibrated.
        editor: Brings edits into its weights, and takes them out again.
        shifting: By layer, the writer whose bias can shift the stream; none without `use_caa`.
        conditions: What calibration rests on, see `run.kept_calibration`.
        kept: The study's calibration, where it holds.
    """

    readers: Readers
    runner: ModelRunner
    editor: Editor
    shifting: Mapping[int, Shift]
    conditions: str
    kept: KeptCalibration | None


def prepare(
    settings: Settings,
    prompts: PromptSets,
    stored_directions: StoredDirections | None = None,
    kept: KeptCalibration | None = None,
    measures: bool = True,
) -> Workbench:
    """Load and measure everything that does not depend on a trial.

    Args:
        settings: The run's.
        prompts: The run's, see `run.preflight`.
        stored_directions: Refined directions that the run's study keeps from an earlier run.
        kept: What calibration found in it.
        measures: Whether the original model is measured at once, and not when that is first needed.

    Raises:
        HereticError: Something the user gave cannot be used; the message says what to do.
    """
    loaded = load(settings, prompts, kept)
    searched = find(settings, prompts, loaded, stored_directions)
    adjustments = adjust(settings, prompts, loaded, searched)
    give_back_freed()
    bench = measure(settings, prompts, loaded, searched, adjustments)
    if measures:
        bench.measuring.now()
    give_back_freed()
    return bench


def load(settings: Settings, prompts: PromptSets, kept: KeptCalibration | None = None) -> Loaded:
    """The models, and an editor of the one that is edited."""
    # Before the model, so that one that cannot serve is said at once, and that calibration sees the memory they take.
    readers = load_readers(settings, prompts)
    runner = open_runner(settings, settings.model or "")
    obstacle = runner.loaded.adapter_obstacle
    if settings.auto_select and settings.save_format == "adapter" and obstacle is not None:
        raise UserError(f"An edit of this model cannot be saved as an adapter ({obstacle}); use --save-format merged.")
    # Before anything is added to the model.
    deciding = conditions(settings, runner.loaded, prompts)
    holding = kept if kept is not None and kept.conditions == deciding else None
    runner = calibrated(settings, runner, prompts) if holding is None else calibrated_as(runner, holding)
    # Before the editor, which has to know biases that are added; a model that cannot hold any is refused at once.
    runner, shifting = shifting_writers(runner, prompts.target.prompts[0]) if settings.use_caa else (runner, {})
    return Loaded(readers, runner, make_editor(settings, runner), shifting, deciding, holding)


def find(
    settings: Settings, prompts: PromptSets, loaded: Loaded, stored_directions: StoredDirections | None
) -> SearchDirections:
    """The directions, found, loaded from files, or as the study keeps them."""
    refinement = stored_refinement(stored_directions, settings, loaded.runner, prompts)
    return obtain_all_directions(settings, loaded.runner, prompts, refinement)


def adjust(settings: Settings, prompts: PromptSets, loaded: Loaded, searched: SearchDirections) -> Adjustments:
    """What every plan is changed by."""
    return make_adjustments(
        settings, loaded.runner, prompts.target, prompts.baseline, searched, loaded.editor, loaded.shifting
    )


def measure(
    settings: Settings, prompts: PromptSets, loaded: Loaded, searched: SearchDirections, adjustments: Adjustments
) -> Workbench:
    """What measures the original model and edits of it, once it is asked."""
    runner, directions = loaded.runner, searched.directions
    # Not before: hooks on every layer, as extraction has them, would break the compiled graph apart.
    settings = with_compiled(settings, runner, prompts)
    space = search_space(settings, runner, searched.position)
    # Before weights are ordered, which then would come back one by one to be looked at.
    identity = study_identity(settings, runner, prompts, directions, space, loaded.readers)
    measuring = Measuring(partial(measured_engine, settings, prompts, loaded, directions, adjustments))
    return Workbench(
        settings,
        prompts,
        runner,
        directions,
        adjustments,
        loaded.editor,
        measuring,
        space,
        identity,
        loaded.readers,
        loaded.conditions,
    )


def measured_engine(
    settings: Settings, prompts: PromptSets, loaded: Loaded, directions: DirectionSet, adjustments: Adjustments
) -> tuple[Original, Engine]:
    """What the original model shows, and what measures edits of it. Emits BaselineMeasured."""
    choice = choose_passes(settings, loaded.runner, prompts)
    original = measure_original(settings, choice, prompts, loaded.readers)
    emit(original.measured)
    for behavior, evaluator in zip(prompts.behaviors, original.behaviors, strict=True):
        if evaluator.room < LITTLE:
            name, baseline = behavior.pack.name, evaluator.baseline
            what = LITTLE_TO_DO if baseline.value else NOTHING_TO_DO
            message = what[settings.goal].format(name, words.original(baseline))
            emit(NothingShown(name, message, evaluator.samples, NEXT_STEP.format(evaluator.otherwise)))
    build = edit_builder(loaded.runner, directions, loaded.editor, adjustments)
    # As many plans at once as before: how many there are decides what the sampler knows when it is asked.
    options = EngineOptions(settings.candidates or (loaded.kept.candidates if loaded.kept else 0))
    unless = ordinary_wanted(settings)
    engine = make_engine(original.runner, build, loaded.editor, original.answered, original.kl, options, unless, choice)
    return original, engine


def open_engine(
    settings: Settings, prompts: PromptSets, directions: DirectionSet, adjustments: Adjustments
) -> tuple[Engine, torch.device, tuple[Score, ...]]:
    """What another process needs to measure plans of a run that is prepared.

    Args:
        settings: The run's, with what calibration found.
        prompts: The run's.
        directions: The run's.
        adjustments: The run's.

    Returns:
        What measures, on which device, and the original model's baselines.
    """
    loaded = load(settings, prompts)
    device = loaded.runner.loaded.device
    settings = with_compiled(settings, loaded.runner, prompts)
    original, engine = measured_engine(settings, prompts, loaded, directions.to(device), adjustments.to(device))
    give_back_freed()
    return engine, device, original.baselines


def with_compiled(settings: Settings, runner: ModelRunner, prompts: PromptSets) -> Settings:
    """Compile the model if the settings ask for it; where this machine cannot, settings that do not, and a warning."""
    if not settings.compile:
        return settings
    row = runner.encode(prompts.target_evaluation.prompts[0])
    obstacle = compile_obstacle(runner.loaded.model, lambda: runner.first_token_logits([row]))
    if obstacle is None:
        return settings
    emit(Warned(f"The model is not compiled ({obstacle}); install a C++ compiler, or leave --compile out."))
    return settings.model_copy(update={"compile": False})


def search_space(settings: Settings, runner: ModelRunner, position: float | None) -> SearchSpace:
    """Where the plans of a run come from; with a position all layers lose the direction found there."""
    return SearchSpace(
        edited_components(settings, runner.layout),
        Normalization(settings.normalization),
        position,
        peak_weight=PEAK_WEIGHTS[settings.goal],
        behaviors=len(settings.behavior),
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
    """Load a model, find its layout, and calibrate it."""
    return calibrated(settings, open_runner(settings, name), prompts)


def open_runner(settings: Settings, name: str) -> ModelRunner:
    """Load a model and find its layout; nothing is calibrated but what the settings say. Emits LayoutFound."""
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
    return ModelRunner(loaded, layout, ChatFormatter(loaded.tokenizer), calibration)


def calibrated_as(runner: ModelRunner, kept: KeptCalibration) -> ModelRunner:
    """The model with what an earlier run of the study found. Emits Calibrated."""
    threads = choose_threads(runner, (), kept.threads)
    emit(Calibrated(kept.batch_size, kept.response_prefix, threads, kept=True))
    return runner.calibrated(kept.batch_size, kept.response_prefix)


def calibrated(settings: Settings, runner: ModelRunner, prompts: PromptSets) -> ModelRunner:
    """The model with the number of threads, batch size and response prefix that are found. Emits Calibrated."""
    measured = (*prompts.answered.prompts, *prompts.baseline_evaluation.prompts)
    threads = choose_threads(runner, measured, settings.threads)
    if settings.batch_size == 0:
        compared_tokens = 1 if settings.kl_mode == "first" else settings.kl_tokens
        with step("finding a batch size", 0):
            size = find_batch_size(runner, measured, settings.max_batch_size, compared_tokens)
        runner = runner.calibrated(batch_size=size)
    if settings.response_prefix is None:
        compared = (*prompts.baseline.prompts[:PREFIX_PROMPTS], *prompts.target.prompts[:PREFIX_PROMPTS])
        prefix, _smaller = backing_off(
            runner, lambda fitting: find_response_prefix(fitting, compared), "looking for a common response prefix"
        )
        runner = runner.calibrated(response_prefix=prefix)
    emit(Calibrated(runner.calibration.batch_size, runner.calibration.response_prefix, threads))
    return runner


def make_editor(settings: Settings, runner: ModelRunner) -> Editor:
    """In-place editing, undone from memory or files; output space where weights are quantised and cannot be written."""
    model, layout = runner.loaded.model, runner.layout
    if runner.loaded.quantization != "none":
        return OutputSpaceEditor(model, layout)
    # Where trials edit the weights, they are restored after each.
    if settings.cache_weights and ordinary_wanted(settings):
        return InplaceEditor(model, layout, WeightCache.capture(model, layout))
    return InplaceEditor(model, layout, original_weights(runner.loaded, layout))
