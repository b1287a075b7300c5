"""Where a run's directions come from and go to: found on the prompts, or loaded from files; saved where asked for."""

import json
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from heretic.common.errors import UserError
from heretic.common.file_names import expanded
from heretic.config import Settings
from heretic.config.sections import DirectionFileOptions, DirectionSection
from heretic.directions.addition import added
from heretic.directions.comparison import shape_text
from heretic.directions.files import (
    DirectionFile,
    created_now,
    read_direction_file,
    summed,
    write_direction_file,
)
from heretic.directions.projections import Projections, projected_lengths
from heretic.directions.types import DirectionSet
from heretic.export.atomic import check_directions_file
from heretic.extraction.extract import COMPARED_TEXTS
from heretic.extraction.find import SearchDirections, StoredRefinement, find_directions, nothing_stored
from heretic.models.loaded import LoadedModel, parameter_fingerprint
from heretic.models.location import shown_model
from heretic.observability.events import DirectionsFound, DirectionsSaved, Warned, emit
from heretic.passes.calibration import backing_off
from heretic.passes.runner import ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.prompts.types import PromptSet

_NOT_OPTIONS = ("extractor", *DirectionFileOptions.model_fields)


def obtain_all_directions(
    settings: Settings, runner: ModelRunner, prompts: PromptSets, stored: StoredRefinement = nothing_stored
) -> SearchDirections:
    """The directions of every behaviour; those of a later one lose what lies in the span of earlier ones.

    Args:
        settings: The run's.
        runner: The original model.
        prompts: The run's behaviours.
        stored: See `find_directions`.

    Raises:
        UserError: A file cannot be used, or two behaviours have the same directions.
    """
    fingerprint = parameter_fingerprint(runner.loaded.model)
    if len(prompts.behaviors) == 1:
        return obtain_directions(settings, runner, prompts.target, prompts.baseline, fingerprint, stored)
    direction_sets = [
        find_directions(settings, runner, behavior.target, behavior.baseline).directions
        for behavior in prompts.behaviors
    ]
    names = [behavior.pack.name for behavior in prompts.behaviors]
    counts = [part.count_per_layer for part in direction_sets]
    if len(set(counts)) > 1:
        raise UserError(
            f"The extractor {settings.direction_method} finds {' and '.join(map(str, counts))} directions for "
            f"{' and '.join(names)}, which cannot share one edit; choose another --extractor such as mean."
        )
    directions = added(direction_sets)
    if directions.count_per_layer < sum(part.count_per_layer for part in direction_sets):
        raise UserError(f"The directions of {' and '.join(names)} are the same on this model; name one behaviour only.")
    compared = [part.provenance.get(COMPARED_TEXTS) or {} for part in direction_sets]
    facts = {
        "behaviors": [
            {"behavior": name, "method": part.method, "provenance": dict(part.provenance)}
            for name, part in zip(names, direction_sets, strict=True)
        ],
        COMPARED_TEXTS: dict(chain.from_iterable(texts_of_part.items() for texts_of_part in compared)),
        **origin(settings, runner, fingerprint),
    }
    directions = replace(directions, provenance=facts).to(runner.loaded.device)
    path = None if settings.save_directions is None else check_directions_file(Path(settings.save_directions))
    if path is not None:
        write_direction_file(path, directions)
        emit(DirectionsSaved(str(path), 0, 0))
    return SearchDirections(directions)


def obtain_directions(
    settings: Settings,
    runner: ModelRunner,
    target: PromptSet,
    baseline: PromptSet,
    fingerprint: str,
    stored: StoredRefinement = nothing_stored,
) -> SearchDirections:
    """The directions of a run: those of `--load-directions`, or new ones; written to `--save-directions`.

    Args:
        settings: The run's.
        runner: The original model.
        target: Training prompts that show the behaviour.
        baseline: Training prompts without it.
        fingerprint: The model's.
        stored: See `find_directions`.

    Raises:
        UserError: A file cannot be used, or does not fit the model.
    """
    path = None if settings.save_directions is None else check_directions_file(Path(settings.save_directions))
    if settings.load_directions:
        loaded = load_directions(settings, runner, fingerprint)
        searched, projections = SearchDirections(loaded.directions), loaded.projections
    else:
        searched, projections = find_directions(settings, runner, target, baseline, stored), None
        facts = {**searched.directions.provenance, **origin(settings, runner, fingerprint)}
        searched = replace(searched, directions=replace(searched.directions, provenance=facts))
        if path is not None:
            projections = measure_projections(runner, searched.directions, target, baseline)
    if path is not None:
        write_direction_file(path, searched.directions, projections)
        counts = (0, 0) if projections is None else (len(projections.target), len(projections.baseline))
        emit(DirectionsSaved(str(path), *counts))
    return searched


def read_sources(settings: Settings) -> DirectionFile:
    """What `--load-directions` names, as one set; a single file keeps its projections.

    Raises:
        UserError: A file cannot be used, or the files do not go together.
    """
    files = [read_direction_file(expanded(name)) for name in settings.load_directions]
    directions = summed(files, settings.load_directions_weights)
    name = " and ".join(file.name for file in files)
    return DirectionFile(name, directions, files[0].projections if len(files) == 1 else None)


def load_directions(settings: Settings, runner: ModelRunner, fingerprint: str) -> DirectionFile:
    """Read the files and hold them against the model. Emits DirectionsFound, and Warned for another model's directions.

    Raises:
        UserError: A file cannot be used, or is for a model of another shape.
    """
    started = time.perf_counter()
    file = read_sources(settings)
    layout, directions = runner.layout, file.directions
    positions, _k, width = directions.vectors.shape
    if (positions, width) != (layout.layer_count + 1, layout.hidden_size):
        raise UserError(
            f"{file.name} holds directions for {shape_text(directions)}, but {settings.model} has "
            f"{layout.layer_count} layers of width {layout.hidden_size}; leave out --load-directions to find its own."
        )
    stranger = _stranger(file, runner, fingerprint)
    if stranger:
        emit(Warned(f"{stranger}; the directions are used all the same, as they may fit a sister model."))
    directions = directions.to(runner.loaded.device)
    quality = tuple(directions.quality.tolist())
    method = f"{directions.method}, loaded from {file.name}"
    emit(DirectionsFound(method, directions.count_per_layer, quality, time.perf_counter() - started))
    return replace(file, directions=directions)


def _stranger(file: DirectionFile, runner: ModelRunner, fingerprint: str) -> str:
    """Why the directions may be those of another model, as the beginning of a sentence, or nothing."""
    facts, here = file.directions.provenance, runner.loaded
    if facts.get("model_fingerprint") == fingerprint:
        return ""
    if "model_fingerprint" not in facts:
        return f"{file.name} does not say which one model it was made on"
    there = str(facts.get("model", "another model"))
    formats = [f"{part.get('dtype')} {part.get('quantization')}" for part in (facts, origin_of_model(here))]
    if formats[0] != formats[1]:
        return (
            f"{file.name} was made on {there} with weights in another number format ({formats[0].replace(' none', '')}"
            f" instead of {formats[1].replace(' none', '')}), so it cannot be told whether that is the same model"
        )
    return f"{file.name} was made on {there}, whose weights are not those of this model"


def measure_projections(
    runner: ModelRunner, directions: DirectionSet, target: PromptSet, baseline: PromptSet
) -> Projections:
    """One more pass over the training prompts: what their residuals are along the directions."""

    def project(runner: ModelRunner, prompts: PromptSet) -> tuple[Tensor, ModelRunner]:
        return backing_off(
            runner,
            lambda fitting: projected_lengths(fitting.residuals(prompts.prompts), directions),
            "projecting residuals on the directions",
        )

    of_target, runner = project(runner, target)
    of_baseline, _runner = project(runner, baseline)
    return Projections(of_target, of_baseline)


def origin(settings: Settings, runner: ModelRunner, fingerprint: str) -> dict[str, Any]:
    """Where directions come from: model, extractor with its options, date and version; plain JSON values."""
    options = {name: getattr(settings, name) for name in DirectionSection.model_fields if name not in _NOT_OPTIONS}
    return {
        **origin_of_model(runner.loaded),
        "model_fingerprint": fingerprint,
        "hidden_size": runner.layout.hidden_size,
        "layer_count": runner.layout.layer_count,
        "response_prefix": runner.calibration.response_prefix,
        "extractor": settings.direction_method,
        "options": {name: _without_folder(value) for name, value in options.items() if _is_plain(value)},
        **created_now(),
    }


def origin_of_model(loaded: LoadedModel) -> dict[str, Any]:
    """Name, commit and number format of a model; a local one without its folders."""
    facts = {"model_commit": loaded.commit, "dtype": loaded.dtype, "quantization": loaded.quantization}
    return {"model": shown_model(loaded.name), **facts}


def _is_plain(value: object) -> bool:
    """Whether a value says what it is by itself; prompt sets are named by their fingerprints."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _without_folder(value: Any) -> Any:
    """A path without its folder, which is nobody else's business; other values as they are."""
    if isinstance(value, str) and (value.startswith("~") or Path(value).is_absolute()):
        return Path(value).name
    return value
