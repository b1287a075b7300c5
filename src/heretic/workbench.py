"""Workbench: one prepared model with everything that measuring and editing it needs.

`prepare` is the first half of the main path (load, lay out, calibrate, extract, measure the baseline); the methods are
what the second half (search, choice, saving, chat) asks for.
"""

import gc
import hashlib
import time
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from heretic.adjusting.caa import shifting_writers
from heretic.adjusting.prepare import adjustments_identity, edited_components, make_adjustments
from heretic.config import Settings
from heretic.direction_sources import loaded_identity, obtain_directions
from heretic.directions.extractor import EXTRACTORS, ExtractorOptions
from heretic.directions.statistics import ResidualMoments
from heretic.directions.transform import TRANSFORMS, TransformContext, TransformOptions
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.edits.algebra import Edit
from heretic.edits.build import UNADJUSTED, Adjustments, build_edits
from heretic.edits.cache import DiskSource, PristineSource, WeightCache
from heretic.edits.editor import Editor
from heretic.edits.inplace import InplaceEditor
from heretic.edits.output_space import OutputSpaceEditor
from heretic.edits.plan import EditPlan, Normalization
from heretic.engine.batched import BatchedEngine
from heretic.engine.factory import EngineOptions, make_batched_engine
from heretic.engine.inplace import BuildEdits, InplaceEngine
from heretic.engine.measurement import Engine
from heretic.evaluation.evaluator import EVALUATORS, Evaluator, EvaluatorOptions
from heretic.evaluation.evaluators.kl import KlEvaluator
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.models.access import post_norm_gain
from heretic.models.biases import hold_biases, match_biases
from heretic.models.calibration import backing_off, find_batch_size, find_response_prefix
from heretic.models.chat_template import ChatFormatter
from heretic.models.layout import find_layout, layout_summary
from heretic.models.loaded import LoadedModel
from heretic.models.loader import load_model
from heretic.models.runner import Calibration, ModelRunner
from heretic.observability.events import (
    BaselineMeasured,
    Calibrated,
    DirectionsFound,
    EngineChosen,
    LayoutFound,
    Warned,
    emit,
)
from heretic.prompts.sources import load_prompt_set, overlap
from heretic.prompts.stand_ins import load_compared_texts
from heretic.prompts.types import PromptSet
from heretic.search.space import SearchSpace

PREFIX_PROMPTS = 32
"""Prompts of each set whose answers are compared when a common prefix is looked for."""
COMPARED_TEXTS = "compared_texts"
"""Key of the provenance of directions: fingerprints of the texts that transforms asked for, by setting."""


@dataclass(frozen=True, slots=True)
class PromptSets:
    """The four prompt sets of a run: *good* is the baseline, *bad* the target of the behaviour."""

    good: PromptSet
    bad: PromptSet
    good_evaluation: PromptSet
    bad_evaluation: PromptSet


@dataclass(frozen=True, slots=True, eq=False)
class Workbench:
    """A prepared model. The weights are unedited between calls unless `editor.apply` was called."""

    settings: Settings
    prompts: PromptSets
    runner: ModelRunner
    directions: DirectionSet
    adjustments: Adjustments
    editor: Editor
    refusals: Evaluator
    kl: Evaluator
    engine: Engine
    space: SearchSpace
    identity: dict[str, str]

    @property
    def loaded(self) -> LoadedModel:
        """The model and its tokenizer."""
        return self.runner.loaded

    def edits(self, plan: EditPlan) -> tuple[Edit, ...]:
        """The edits that a plan stands for on this model."""
        return edit_builder(self.runner, self.directions, self.editor, self.adjustments)(plan)


def prepare(settings: Settings) -> Workbench:
    """Load and measure everything that does not depend on a trial.

    Raises:
        HereticError: Something the user gave cannot be used; the message says what to do.
    """
    prompts = load_prompts(settings)
    check_method(settings, prompts)
    runner = load_runner(settings, settings.model or "", prompts)
    # First, so that a model that cannot hold biases is refused at once, and so that the editor knows them.
    runner, shifting = shifting_writers(runner, prompts.bad.prompts[0]) if settings.use_caa else (runner, {})
    editor = make_editor(settings, runner)
    directions = obtain_directions(
        settings,
        runner,
        prompts.bad,
        prompts.good,
        model_fingerprint(runner.loaded),
        lambda: extract_directions(settings, runner, prompts),
    )
    adjustments = make_adjustments(settings, runner, prompts.bad, prompts.good, directions, editor, shifting)
    if settings.compile:
        # After the extraction: its hooks on every layer would break the compiled graph apart.
        # Batches differ in length: without `dynamic` every length would be compiled for itself.
        runner.loaded.model.compile(dynamic=True)
    started = time.perf_counter()
    refusals, kl = make_evaluators(settings, runner, prompts)
    emit(
        BaselineMeasured(
            int(refusals.baseline.value), refusals.baseline.n, kl.baseline.n, time.perf_counter() - started
        )
    )
    if refusals.baseline.value == 0:
        emit(Warned("The unedited model refuses nothing in the evaluation prompts, so there is nothing to remove."))
    space = SearchSpace(edited_components(settings, runner.layout), Normalization(settings.normalization))
    identity = study_identity(settings, runner, prompts, directions, space)
    build = edit_builder(runner, directions, editor, adjustments)
    engine = make_engine(settings, runner, build, editor, refusals, kl)
    return Workbench(settings, prompts, runner, directions, adjustments, editor, refusals, kl, engine, space, identity)


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


def make_engine(
    settings: Settings, runner: ModelRunner, build: BuildEdits, editor: Editor, refusals: Evaluator, kl: Evaluator
) -> Engine:
    """The engine that the settings ask for, or the reference where a model needs it. Emits EngineChosen."""
    obstacle = ""
    if settings.compile:
        obstacle = "edits on outputs would break the compiled model apart"
    elif settings.engine == "batched" and isinstance(refusals, MarkerEvaluator) and isinstance(kl, KlEvaluator):
        engine = make_batched_engine(runner, build, refusals, kl, EngineOptions(settings.candidates))
        if isinstance(engine, BatchedEngine):
            emit(EngineChosen("batched", engine.candidates, "", engine.shared_tokens, engine.kept_bytes))
            return engine
        obstacle = engine
    emit(EngineChosen("in place", 1, obstacle))
    return InplaceEngine(build, editor, refusals, kl)


def load_prompts(settings: Settings) -> PromptSets:
    """Read the four prompt sets and report evaluation prompts that also stand in a training set."""
    sets = {
        role: load_prompt_set(role, getattr(settings, role), settings.system_prompt)
        for role in ("good_prompts", "bad_prompts", "good_evaluation_prompts", "bad_evaluation_prompts")
    }
    for training, evaluation in (
        ("good_prompts", "good_evaluation_prompts"),
        ("bad_prompts", "bad_evaluation_prompts"),
    ):
        shared = len(overlap(sets[training], sets[evaluation]))
        if shared:
            emit(
                Warned(
                    f"{shared} of {len(sets[evaluation])} {evaluation} also stand in {training}; results on them are "
                    "too good."
                )
            )
    return PromptSets(*sets.values())


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
    again = settings.model_copy(update={"device": "cpu", "device_map": "cpu", "dtypes": [loaded.dtype]})

    def load() -> PreTrainedModel:
        fresh = load_model(loaded.name, again).model
        match_biases(fresh, loaded.model)
        return fresh

    return DiskSource(load)


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


def check_method(settings: Settings, prompts: PromptSets) -> None:
    """Refuse, before a model is loaded, a way of finding directions that cannot work.

    Raises:
        PluginError: There is no such extractor or transform.
        ConfigurationError: There are too few prompts for it, or its options do not fit; the message names the option.
    """
    method = EXTRACTORS.get(settings.extractor)
    method.check(settings.extractor, len(prompts.bad), len(prompts.good), extractor_options(settings))
    for name in settings.transforms:
        TRANSFORMS.get(name)


def extractor_options(settings: Settings) -> ExtractorOptions:
    """The extractors' part of the settings."""
    probe_share, pca_share = settings.ensemble_weights
    return ExtractorOptions(
        n_directions=settings.n_directions,
        pca_alpha=settings.pca_alpha,
        use_eigenvalue_weights=settings.use_eigenvalue_weights,
        eigenvalue_weight_method=settings.eigenvalue_weight_method,
        eigenvalue_weight_temperature=settings.eigenvalue_weight_temperature,
        direction_weights=tuple(settings.direction_weights),
        min_probe_accuracy=settings.min_probe_accuracy,
        ensemble_weights=(probe_share, pca_share),
        n_concept_cones=settings.n_concept_cones,
        min_cone_size=settings.min_cone_size,
        directions_per_cone=settings.directions_per_cone,
        leace_regularization=settings.leace_regularization,
    )


def transform_options(settings: Settings) -> TransformOptions:
    """The transforms' part of the settings."""
    return TransformOptions(
        n_sacred_directions=settings.n_sacred_directions,
        sacred_regularization=settings.sacred_regularization,
        sacred_overlap_threshold=settings.sacred_overlap_threshold,
    )


def extract_directions(settings: Settings, runner: ModelRunner, prompts: PromptSets) -> DirectionSet:
    """Statistics of both classes, the extractor, and the transforms.

    The provenance also holds the fingerprints of the texts that transforms asked for, by setting.
    """
    started = time.perf_counter()
    check_method(settings, prompts)
    method = EXTRACTORS.get(settings.extractor)
    needs = (method.needs_second_moment, method.needs_residuals)
    target, runner = collect_statistics(runner, prompts.bad, *needs)
    baseline, runner = collect_statistics(runner, prompts.good, *needs)
    directions = method.extract(target, baseline, extractor_options(settings))
    compared: dict[str, str] = {}

    def statistics(role: str) -> ResidualStatistics:
        default = Settings.model_fields[role].default
        texts = load_compared_texts(role, getattr(settings, role), default, settings.system_prompt)
        compared[role] = texts.fingerprint
        return collect_statistics(runner, texts, with_residuals=True)[0]

    context = TransformContext(target, baseline, statistics)
    for name in settings.transforms:
        directions = TRANSFORMS.get(name)(directions, context, transform_options(settings))
    directions = replace(directions, provenance={**directions.provenance, COMPARED_TEXTS: compared})
    emit(
        DirectionsFound(
            directions.method,
            directions.count_per_layer,
            tuple(directions.quality.tolist()),
            time.perf_counter() - started,
        )
    )
    return directions


def evaluator_options(settings: Settings) -> EvaluatorOptions:
    """The evaluators' part of the settings."""
    return EvaluatorOptions(
        settings.kl_mode,
        settings.kl_tokens,
        settings.refusal_check_tokens,
        tuple(settings.refusal_markers),
        settings.refusal_detection_mode,
    )


def make_evaluators(settings: Settings, runner: ModelRunner, prompts: PromptSets) -> tuple[Evaluator, Evaluator]:
    """Refusals on the target's and KL on the baseline's evaluation prompts, with the unedited model's numbers.

    Where memory runs out an evaluator gets, and keeps, a smaller batch size.

    Raises:
        OutOfMemoryError: Not even one prompt at a time can be measured.
    """
    options = evaluator_options(settings)
    refusals, _runner = backing_off(
        runner,
        lambda fitting: EVALUATORS.get("markers")(fitting, prompts.bad_evaluation, options),
        "counting the unedited model's refusals",
    )
    kl, _runner = backing_off(
        runner,
        lambda fitting: EVALUATORS.get("kl")(fitting, prompts.good_evaluation, options),
        "recording the unedited model's predictions",
    )
    return refusals, kl


def study_identity(
    settings: Settings, runner: ModelRunner, prompts: PromptSets, directions: DirectionSet, space: SearchSpace
) -> dict[str, str]:
    """What a stored study has to have in common with this run to be continued, by aspect."""
    calibration = runner.calibration
    compared = directions.provenance.get(COMPARED_TEXTS) or {}
    method = (
        f"{settings.extractor} {extractor_options(settings)} {','.join(settings.transforms)} "
        f"{transform_options(settings)} {' '.join(f'{role} {texts}' for role, texts in sorted(compared.items()))}"
    )
    return {
        "model": model_fingerprint(runner.loaded),
        "number format": f"{calibration.dtype} {runner.loaded.quantization}",
        "set of training prompts": f"{prompts.good.fingerprint} {prompts.bad.fingerprint}",
        "set of evaluation prompts": f"{prompts.good_evaluation.fingerprint} {prompts.bad_evaluation.fingerprint}",
        "response prefix": calibration.response_prefix,
        "way of finding directions": loaded_identity(settings, directions) or method,
        "way of measuring": repr(evaluator_options(settings)),
        "search space": space.identity(),
        **adjustments_identity(settings),
    }


def model_fingerprint(loaded: LoadedModel) -> str:
    """SHA-256 over names, shapes and the first values of every parameter: cheap, and another for other weights."""
    digest = hashlib.sha256()
    for name, parameter in loaded.model.named_parameters():
        values = parameter.detach().flatten()[:16].float().cpu().tolist() if parameter.device.type != "meta" else []
        digest.update(f"{name} {tuple(parameter.shape)} {values}".encode())
    return digest.hexdigest()


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
