"""Saving an edited model: one function, whose folder is complete, checked and documented, or does not exist."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from heretic.common.errors import ExportError
from heretic.export.adapter import ByModule, check_factors, factor_bytes, write_adapter
from heretic.export.atomic import check_free_space, check_target, staged_folder
from heretic.export.base import GENERATION, base_files, differences_from_base, inherit_configuration
from heretic.export.card import write_card
from heretic.export.content import ExportContent, ExportFormat, SavedModel
from heretic.export.manifest import write_manifest
from heretic.export.origin import copy_legal_files, find_origin
from heretic.export.tokenizer import save_tokenizer
from heretic.export.verify import BaseLoader, Verification, verify_adapter, verify_merged
from heretic.models.access import put_back
from heretic.models.loaded import LoadedModel
from heretic.models.storage import is_quantized
from heretic.observability.libraries import counted_bars
from heretic.observability.steps import step

DEFAULT_SHARD_SIZE = "5GB"
NO_PROMPTS = Verification(())


def model_bytes(model: PreTrainedModel) -> int:
    """Size of a model's tensors as they are written: tied ones count once."""
    total = 0
    seen: set[int] = set()
    for tensor in model.state_dict().values():
        address = tensor.data_ptr() if tensor.device.type != "meta" else 0
        if address == 0 or address not in seen:
            total += tensor.nbytes
        seen.add(address)
    return total


def check_mergeable(loaded: LoadedModel) -> None:
    """Check that the weights in memory are the model's own, not a packed approximation.

    Raises:
        ExportError: They are quantised.
    """
    if loaded.quantization != "none" or any(is_quantized(module) for module in loaded.model.modules()):
        raise ExportError(
            "The model was loaded quantised, and merging would save the quantisation's losses for good; load it again "
            "with --quantization none and apply the edit there, or save an adapter."
        )


@contextmanager
def _hidden_bars() -> Iterator[None]:
    """No bar of transformers on the terminal, whoever switched them on again since the model was loaded."""
    bars: Any = transformers_logging
    active = bars.is_progress_bar_enabled()
    if active:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        if active:
            bars.enable_progress_bar()


@contextmanager
def _saving_state(model: PreTrainedModel) -> Iterator[None]:
    """What `save_pretrained` needs or changes on the model, for the duration of a with-block."""
    generation: Any = getattr(model, "generation_config", None)
    architectures, dtype = model.config.architectures, model.config.dtype
    try:
        if generation is not None:
            # transformers refuses to save what many published models say: a temperature without sampling.
            model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]  # untyped in transformers
        yield
    finally:
        if generation is not None:
            model.generation_config = generation
        model.config.architectures, model.config.dtype = architectures, dtype


def write_merged(loaded: LoadedModel, folder: Path, max_shard_size: str, base: Mapping[str, Path]) -> None:
    """Write weights (safetensors, in the dtype they have), configuration and generation configuration.

    Raises:
        ExportError: The base's configuration can no longer be read.
        OSError: Writing failed; SafetensorError where safetensors reports it.
    """
    with step("writing weights"), counted_bars("files"), _saving_state(loaded.model):
        loaded.model.save_pretrained(folder, max_shard_size=max_shard_size)
    if (folder / GENERATION).is_file():
        generation: Any = loaded.model.generation_config
        generation.to_json_file(folder / GENERATION)
    inherit_configuration(loaded, base, folder)


def save_model(
    loaded: LoadedModel,
    folder: Path,
    content: ExportContent,
    *,
    factors: ByModule | None = None,
    verification: Verification = NO_PROMPTS,
    load_base: BaseLoader | None = None,
    max_shard_size: str = DEFAULT_SHARD_SIZE,
) -> SavedModel:
    """Save the model as it is in memory, with its edit, or only the edit as an adapter.

    Everything is written beside the target, loaded again and compared, described in a manifest and renamed last.

    Args:
        loaded: The model with the edit applied in place.
        folder: Where to save; it must not exist, or be empty.
        content: What manifest and card say about the edit.
        factors: By module path: save a PEFT adapter with them instead of the merged model.
        verification: Prompts whose answers are compared after loading the folder again.
        load_base: Loads the original model, to verify an adapter; by default from `loaded.source`.
        max_shard_size: Largest weight file, e.g. ``5GB``.

    Returns:
        The finished folder.

    Raises:
        UserError: The target cannot be used, or the disk lacks room.
        ExportError: The model is quantised, writing failed, or the saved folder is not the edited model. The target is
            as it was before.
    """
    export_format = ExportFormat.MERGED if factors is None else ExportFormat.ADAPTER
    # Whatever form they were measured in, what is read here is the weights themselves.
    put_back(loaded.model.parameters())
    target, base = check_target(folder), base_files(loaded)
    if factors is None:
        check_mergeable(loaded)
        check_free_space(target, model_bytes(loaded.model))
    else:
        check_factors(loaded.model, factors)
        check_free_space(target, factor_bytes(factors))
    with _hidden_bars(), staged_folder(folder) as (staging, target):
        if factors is None:
            write_merged(loaded, staging, max_shard_size, base)
        else:
            write_adapter(loaded, factors, staging)
        save_tokenizer(loaded, staging, base)
        with step("loading what was saved"), counted_bars("tensors"):
            if factors is None:
                answers = verify_merged(staging, loaded, verification)
            else:
                answers = verify_adapter(staging, loaded, factors, verification, load_base)
        origin = find_origin(loaded)
        copy_legal_files(origin, staging)
        write_card(staging, loaded, content, export_format, origin)
        checked = {"answers_compared": answers, "differs_from_base": differences_from_base(base, staging)}
        with step("writing checksums"):
            write_manifest(staging, loaded, content, export_format, checked)
        files = [path.stat().st_size for path in staging.rglob("*") if path.is_file()]
    return SavedModel(target, export_format, len(files), sum(files), answers)
