"""What is refused before anything is loaded: options that do not go together, then names, files and prompts."""

from pathlib import Path

from heretic.config import Settings
from heretic.directions.transform import TRANSFORMS
from heretic.evaluation.pack_check import check_evaluator, check_kept, check_training, measured_packs
from heretic.export.atomic import check_directions_file, check_file_target, check_target, is_saved_model
from heretic.export.hub import check_upload
from heretic.models.devices import check_placement, pick_device
from heretic.models.location import locate
from heretic.prompts.sets import PromptSets, check_held_out_files, load_prompts
from heretic.run.direction_sources import read_sources
from heretic.run.rules import BEHAVIORS, METHODS, Request, check, check_options, searches
from heretic.run.start_from import read_start
from heretic.search.claim import check_study_file, claimed


def preflight(settings: Settings) -> PromptSets:
    """Refuse what cannot work before a model is loaded and hours are spent; the run's prompts are read on the way.

    Raises:
        UserError: Options, files or prompts cannot be used; the message names the option to change.
    """
    check_options(settings)
    request = Request(settings, measured_packs(settings))
    check_request(request)
    # A mistyped path or device is said at once, before prompts are fetched.
    pick_device(settings.device)
    if settings.neural_detection_device != "auto":
        pick_device(settings.neural_detection_device, "--neural-detection-device")
    check_placement(settings.device_map, settings.max_memory)
    for name in filter(None, (settings.model, settings.evaluate_model)):
        locate(name, None if name == settings.model else settings.model)
    if searches(settings):
        check_files(settings)
        if settings.confirm:
            check_held_out_files(settings, request.packs)
    prompts = load_prompts(settings, request.packs)
    if searches(settings):
        check_prompts(request, prompts)
    return prompts


def check_request(request: Request) -> None:
    """Refuse options that do not go with the behaviours or the method that are named, and names that do not exist.

    Raises:
        ConfigurationError: Names the option to change.
        PluginError: There is no such extractor, transform or evaluator.
    """
    for pack in request.packs:
        check_evaluator(pack)
    for pack in request.kept:
        check_kept(pack)
    check(BEHAVIORS, request)
    if searches(request.settings):
        check(METHODS, request)
        for name in request.settings.transforms:
            TRANSFORMS.get(name)


def check_files(settings: Settings) -> None:
    """Refuse files, folders and repositories that could not be read or written later."""
    if settings.save_directions is not None:
        check_directions_file(Path(settings.save_directions))
    if settings.use_warm_start_params and settings.profile_store is not None:
        check_file_target(Path(settings.profile_store))
    if settings.auto_select and settings.auto_select_path is not None and not continues_upload(settings):
        check_target(Path(settings.auto_select_path))
    if settings.auto_select and settings.hf_upload is not None:
        check_upload(settings.hf_upload)
    with claimed(settings.storage, settings.study):
        check_study_file(settings.storage)
    if settings.load_directions:
        read_sources(settings)
    if settings.start_from is not None:
        read_start(settings.start_from, settings.goal)


def continues_upload(settings: Settings) -> bool:
    """Whether the folder may be that of an earlier run whose upload is to be continued."""
    path, merged = settings.auto_select_path, settings.save_format == "merged"
    return settings.hf_upload is not None and merged and path is not None and is_saved_model(Path(path).expanduser())


def check_prompts(request: Request, prompts: PromptSets) -> None:
    """Refuse prompts that no direction can be found with.

    Raises:
        ConfigurationError: There are too few, or both sides are the same.
    """
    if request.settings.load_directions:
        # Loaded directions rest on no training prompts of this run.
        return
    for behavior in prompts.behaviors:
        check_training(behavior.pack.name, behavior.target, behavior.baseline)
        request.method.check(request.settings.direction_method, len(behavior.target), len(behavior.baseline))
