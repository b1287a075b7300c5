"""Loading a model: the dtype chain, each entry proved by really generating with finite logits."""

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from heretic.common.errors import ModelError, UserError
from heretic.config.sections import ModelSection
from heretic.models.adapters import REMARK, WITHOUT_ADAPTER, check_adapter, merged
from heretic.models.chat_template import ChatFormatter
from heretic.models.checkpoint import Checkpoint, model_class, read_checkpoint
from heretic.models.devices import device_count, empty_cache, pick_device
from heretic.models.footprint import Footprint, Work
from heretic.models.gguf import dequantized, name_unused, without_gguf_traces
from heretic.models.host_memory import free_host_memory
from heretic.models.load_errors import NOT_FINITE, OUT_OF_MEMORY, diagnose, exhausted, refused
from heretic.models.loaded import LoadedModel
from heretic.models.location import locate
from heretic.models.stored_forms import check_form, loading_arguments, ordinary
from heretic.models.weight_headers import tensors_of_model
from heretic.observability.events import DtypeRejected, ModelLoaded, ModelLoading, emit
from heretic.observability.hub_client import prepare_hub
from heretic.observability.libraries import counted_bars, quieten
from heretic.observability.steps import step
from heretic.prompts.types import Prompt

PROBE = Prompt("Say hello.")
"""What is asked of a model before a dtype is accepted."""

PROBE_TOKENS = 2
"""The second token is the first that reads the key-value cache."""

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")


def open_checkpoint(name: str, settings: ModelSection, base: str | None = None) -> Checkpoint:
    """What is read of a model before its weights; its files are verified here.

    Args:
        name: ``demo``, a folder, a .gguf file, or a hub id; a folder of that name wins over the hub.
        settings: See config.sections.ModelSection.
        base: Model of an adapter whose own one is not to be found.

    Raises:
        ModelError: There is no such model, or it cannot be loaded or saved whatever the dtype.
        UserError: Its files are not those of its manifest.
    """
    location = locate(name, base)
    quieten_libraries(show_downloads=location.is_hub and sys.stderr.isatty())
    if location.gguf_file is not None and settings.quantization != "none":
        raise ModelError(f"{name} is dequantised when it is loaded; use --quantization none with a GGUF file.")
    check_adapter(location, settings.quantization)
    try:
        checkpoint = read_checkpoint(
            location,
            settings.model_revision,
            settings.trust_remote_code,
            allow_pickle=settings.allow_pickle,
            verify=settings.verify,
        )
    except Exception as error:
        diagnosis = diagnose(error, name)
        if isinstance(error, UserError) or diagnosis is None:
            raise
        reason = diagnosis.reason
        raise ModelError(reason if diagnosis.is_final else refused(name, reason)) from error
    if checkpoint.form is not None:
        check_form(name, checkpoint.form, settings.quantization)
    return checkpoint


def load_model(name: str, settings: ModelSection, checkpoint: Checkpoint | None = None) -> LoadedModel:
    """Load a model with the first dtype of the chain that works.

    A dtype works when the model generates with it and all logits are finite. Emits ModelLoading and DtypeRejected for
    each attempt, and ModelLoaded.

    Args:
        name: See `open_checkpoint`.
        settings: See config.sections.ModelSection.
        checkpoint: What `open_checkpoint` gave, where that was called before.

    Raises:
        ModelError: The model cannot be loaded; at once where no dtype can mend the failure.
        UserError: Its files are not those of its manifest.
    """
    device = pick_device(settings.device)
    started = time.perf_counter()
    with step("reading the model's files"):
        checkpoint = checkpoint or open_checkpoint(name, settings)
    rejected: list[tuple[str, str]] = []
    tried: set[str] = set()
    for entry in settings.dtypes:
        dtype = checkpoint.dtype_of(entry)
        if dtype in tried:
            continue
        tried.add(dtype)
        emit(ModelLoading(name, dtype))
        with step("loading weights"), counted_bars("tensors"):
            outcome = _attempt(checkpoint, settings, entry, device)
        if isinstance(outcome, LoadedModel):
            _announce(outcome, time.perf_counter() - started)
            return outcome
        rejected.append((dtype, outcome))
        emit(DtypeRejected(dtype, outcome))
        empty_cache(device)
    raise ModelError(exhausted(name, rejected))


def quieten_libraries(show_downloads: bool) -> None:
    """Keep warnings, and bars other than those of downloads, out of the terminal; failures are put into words."""
    quieten("transformers")
    prepare_hub()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    bars: Any = transformers_logging
    bars.disable_progress_bar()
    if show_downloads:
        bars = huggingface_hub.utils
        bars.enable_progress_bars()


def _attempt(checkpoint: Checkpoint, settings: ModelSection, dtype: str, device: torch.device) -> LoadedModel | str:
    """Load and probe with one dtype; the model, or why the dtype does not work.

    Raises:
        ModelError: No dtype can mend the failure.
    """
    shortage = _shortage(checkpoint, settings, dtype, device)
    if shortage:
        return shortage
    try:
        loaded = _load(checkpoint, settings, dtype, device)
        return _probe(loaded) or loaded
    except Exception as error:
        diagnosis = diagnose(error, checkpoint.location.name)
        if isinstance(error, ModelError) or diagnosis is None:
            raise
        if diagnosis.is_final:
            raise ModelError(diagnosis.reason) from error
        return diagnosis.reason


def _shortage(checkpoint: Checkpoint, settings: ModelSection, dtype: str, device: torch.device) -> str:
    """Why ordinary weights in a folder need more host memory than is free: the system would end the run or swap.

    Empty where they fit, and where nothing tells: what accelerate may leave on the disk, quantised and packed weights,
    and those of a repository, which may not be here yet.
    """
    ordinary_ones = checkpoint.weights == "safetensors" and checkpoint.form is None and settings.quantization == "none"
    spread = settings.device_map != "auto" or settings.max_memory is not None
    if device.type != "cpu" or spread or checkpoint.location.is_hub or not ordinary_ones:
        return ""
    try:
        tensors = tensors_of_model(Path(checkpoint.location.source), checkpoint.location.name)
    except ModelError:
        return ""  # Whoever loads them says what is wrong.
    name = checkpoint.dtype_of(dtype)
    needed, free = Footprint(tensors, {}, Work(name, 0, 0)).weights, free_host_memory()
    if needed <= free:
        return ""
    return f"{OUT_OF_MEMORY}, since its weights take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"


def _load(checkpoint: Checkpoint, settings: ModelSection, dtype: str, device: torch.device) -> LoadedModel:
    location, tokenizer = checkpoint.location, checkpoint.tokenizer
    if settings.allow_pickle:
        # transformers would have a service on the hub convert pickled weights, with this user's login.
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    auto_class = model_class(checkpoint.is_vision_language)
    model, information = auto_class.from_pretrained(
        location.source,
        dtype=dtype if dtype == "auto" else getattr(torch, dtype),
        use_safetensors=None if checkpoint.weights != "safetensors" else True,
        output_loading_info=True,
        **placement(settings, device),
        **_form_arguments(checkpoint, settings.quantization),
        **(WITHOUT_ADAPTER if location.adapter == location.source else {}),
        **({"config": checkpoint.configuration} if location.gguf_file else {}),
        **checkpoint.arguments_of(auto_class.__name__),
    )
    missing = sorted(information["missing_keys"])
    if missing:
        # transformers would go on with random numbers in their place.
        raise ModelError(
            f"{location.name} lacks the weights {', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}; "
            "download the model again, or name a complete one."
        )
    model, remark = _as_edited(model, checkpoint, settings.quantization, information["unexpected_keys"])
    model.eval()
    model.requires_grad_(False)
    _tidy_generation(model, tokenizer.pad_token_id)
    return LoadedModel(
        name=location.name,
        source=location.source,
        commit=checkpoint.commit,
        model=model,
        tokenizer=tokenizer,
        processor=checkpoint.processor,
        dtype=str(model.dtype).removeprefix("torch."),
        quantization=settings.quantization,
        weights=checkpoint.weights,
        code=checkpoint.code,
        remark=remark,
    )


def _as_edited(model: PreTrainedModel, checkpoint: Checkpoint, quantization: str, unused: Any) -> tuple[Any, str]:
    """The model in the form in which it is edited, and what was done for that, in words; `unused` names tensors."""
    location, form = checkpoint.location, checkpoint.form
    remarks = []
    if location.gguf_file is not None:
        without_gguf_traces(model, checkpoint.tokenizer)
        name_unused(Path(location.source) / location.gguf_file, model, unused)
    elif form is not None:
        model = ordinary(model, location.name, form) if quantization == "none" else model
        remarks.append(form.remark(searched=quantization != "none"))
    if location.adapter is not None:
        model = merged(model, location)
        remarks.append(REMARK)
    return model, "; ".join(remarks)


def _tidy_generation(model: PreTrainedModel, pad_token_id: Any) -> None:
    """Give generation a padding token, and drop sampling options of a model that does not sample.

    transformers warns of such options and refuses to save them.
    """
    generation: Any = model.generation_config
    if generation.pad_token_id is None:
        generation.pad_token_id = pad_token_id
    if not generation.do_sample:
        for name in _SAMPLING:
            if hasattr(generation, name):
                setattr(generation, name, None)


def placement(settings: ModelSection, device: torch.device) -> dict[str, Any]:
    """Where the weights go, as arguments of `from_pretrained`.

    All on one device where that is what the settings say, which spares accelerate's hooks on every module.
    """
    if settings.device_map == "auto" and settings.max_memory is None:
        several = settings.device == "auto" and device_count(device.type) > 1
        return {"device_map": "auto" if several else {"": str(device)}}
    arguments: dict[str, Any] = {"device_map": settings.device_map}
    if settings.max_memory is not None:
        sizes = settings.max_memory.items()
        arguments["max_memory"] = {int(key) if key.isdigit() else key: size for key, size in sizes}
    return arguments


def _form_arguments(checkpoint: Checkpoint, quantization: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` that have the weights come quantised as they are wanted, or not at all."""
    if checkpoint.location.gguf_file is not None:
        return dequantized()
    if checkpoint.form is not None:
        return loading_arguments(checkpoint.form, quantization)
    return _quantization(quantization)


def _quantization(quantization: str) -> dict[str, Any]:
    configuration: Any = BitsAndBytesConfig
    if quantization == "none":
        return {}
    if quantization == "bnb_8bit":
        return {"quantization_config": configuration(load_in_8bit=True)}
    return {
        "quantization_config": configuration(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    }


@torch.inference_mode()
def _probe(loaded: LoadedModel) -> str | None:
    """Generate, and compute the logits of the whole prompt; why the dtype does not work, or None where it does."""
    model: Any = loaded.model
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        # accelerate would bring such weights in layer by layer; edits of them would be lost.
        return OUT_OF_MEMORY
    formatter = ChatFormatter(loaded.tokenizer)
    batch = loaded.tokenizer(
        formatter.render(PROBE), add_special_tokens=formatter.add_special_tokens, return_tensors="pt"
    ).to(loaded.device)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    generated = model.generate(
        **inputs, max_new_tokens=PROBE_TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    logits = [model(**inputs, use_cache=False).logits, *generated.logits]
    return None if all(bool(torch.isfinite(part).all()) for part in logits) else NOT_FINITE


def _announce(loaded: LoadedModel, seconds: float) -> None:
    model: Any = loaded.model
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    emit(
        ModelLoaded(
            model=loaded.name,
            architecture=type(model).__name__,
            parameter_count=model.num_parameters(),
            dtype=loaded.dtype if loaded.quantization == "none" else f"{loaded.dtype}, {loaded.quantization}",
            device=", ".join(devices),
            seconds=seconds,
            remark=loaded.remark,
        )
    )
