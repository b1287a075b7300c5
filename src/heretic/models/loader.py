"""Loading a model: the dtype chain, each entry proved by really generating a token with finite logits."""

import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from heretic.errors import ModelError
from heretic.models.chat_template import ChatFormatter
from heretic.models.devices import empty_cache, is_out_of_memory, pick_device
from heretic.models.gguf import gguf_arguments, without_gguf_traces
from heretic.models.load_errors import final_reason, short_reason
from heretic.models.loaded import LoadedModel
from heretic.models.location import Location, locate
from heretic.observability.events import DtypeRejected, ModelLoaded, ModelLoading, emit
from heretic.prompts.types import Prompt

PROBE = Prompt("Say hello.")
"""What is asked of a model before a dtype is accepted."""


class LoadingSettings(Protocol):
    """The settings that loading reads; see config.sections.ModelSection for their meaning."""

    @property
    def model_revision(self) -> str | None: ...  # noqa: D102
    @property
    def dtypes(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def quantization(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def device_map(self) -> Any: ...  # noqa: D102
    @property
    def max_memory(self) -> dict[str, str] | None: ...  # noqa: D102
    @property
    def trust_remote_code(self) -> bool: ...  # noqa: D102


def load_model(name: str, settings: LoadingSettings) -> LoadedModel:
    """Load a model with the first dtype of the chain that works.

    A dtype works when the model generates a token with it and all logits are finite.

    Args:
        name: ``demo``, a folder, a .gguf file, or a hub id; a folder of that name wins over the hub.
        settings: See config.sections.ModelSection.

    Raises:
        ModelError: The model cannot be loaded; at once where no dtype can mend the failure.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    location = locate(name)
    device = pick_device(settings.device)
    rejected = []
    for dtype in settings.dtypes:
        emit(ModelLoading(name, dtype))
        started = time.perf_counter()
        try:
            loaded = _load(location, settings, dtype, device)
            reason = _probe(loaded)
        except Exception as error:  # noqa: BLE001 - model code raises anything; every kind is put into words or raised
            final = final_reason(error, name)
            if final is not None:
                raise ModelError(final) from error
            if not isinstance(error, (RuntimeError, ValueError, TypeError, NotImplementedError, MemoryError)):
                raise
            reason = short_reason(error)
        if reason is None:
            _announce(loaded, time.perf_counter() - started)
            return loaded
        rejected.append(f"{dtype}: {reason}")
        emit(DtypeRejected(dtype, reason))
        loaded = None  # type: ignore[assignment]  # frees the memory before the next attempt
        empty_cache(device)
    raise ModelError(
        f"{name} works with none of the number formats ({'; '.join(rejected)}); give others with --dtypes, or, where "
        "memory ran out, use --quantization bnb_4bit, --device-map or --max-memory."
    )


def _load(location: Location, settings: LoadingSettings, dtype: str, device: torch.device) -> LoadedModel:
    common: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code, **gguf_arguments(location.gguf_file)}
    if location.is_hub:
        common["revision"] = settings.model_revision
    configuration = AutoConfig.from_pretrained(location.source, **common)
    if getattr(configuration, "is_encoder_decoder", False):
        raise ModelError(f"{location.name} is an encoder-decoder model; Heretic edits decoder-only models.")
    vision = (
        configuration.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        and configuration.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    ) or _is_conditional(configuration)
    tokenizer = prepared_tokenizer(AutoTokenizer.from_pretrained(location.source, **common))
    processor = AutoProcessor.from_pretrained(location.source, **common) if vision else None
    model_class: Any = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    model: PreTrainedModel = model_class.from_pretrained(
        location.source,
        dtype=dtype if dtype == "auto" else getattr(torch, dtype),
        use_safetensors=None if location.gguf_file else True,
        **_placement(settings, device),
        **_quantization(settings.quantization),
        **common,
    )
    if location.gguf_file is not None:
        without_gguf_traces(model, tokenizer)
    model.eval()
    model.requires_grad_(False)
    if model.generation_config.pad_token_id is None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    return LoadedModel(
        name=location.name,
        source=location.source,
        commit=getattr(configuration, "_commit_hash", None),
        model=model,
        tokenizer=tokenizer,
        processor=processor,
        dtype=str(model.dtype).removeprefix("torch."),
        quantization=settings.quantization,
    )


def _is_conditional(configuration: Any) -> bool:
    """Whether the checkpoint names a vision-language class, for types that exist with and without vision."""
    names = configuration.architectures or []
    return configuration.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and any(
        name.endswith("ForConditionalGeneration") for name in names
    )


def prepared_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer that pads on the left, with a token to pad with.

    Raises:
        ModelError: It has no token that could serve.
    """
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        substitute = tokenizer.eos_token or tokenizer.unk_token
        if substitute is None:
            raise ModelError("The tokenizer has neither a padding nor an end token; add one to tokenizer_config.json.")
        tokenizer.pad_token = substitute
    return tokenizer


def _placement(settings: LoadingSettings, device: torch.device) -> dict[str, Any]:
    """Where the weights go: on one device without accelerate's hooks where that is all there is."""
    if settings.device_map == "auto" and settings.max_memory is None:
        several = device.type == "cuda" and settings.device == "auto" and torch.cuda.device_count() > 1
        return {"device_map": "auto" if several else {"": str(device)}}
    arguments: dict[str, Any] = {"device_map": settings.device_map}
    if settings.max_memory is not None:
        arguments["max_memory"] = {int(key) if key.isdigit() else key: size for key, size in settings.max_memory.items()}
    return arguments


def _quantization(quantization: str) -> dict[str, Any]:
    if quantization == "none":
        return {}
    if quantization == "bnb_8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    }


@torch.inference_mode()
def _probe(loaded: LoadedModel) -> str | None:
    """Generate one token; why the dtype does not work, or None where it does."""
    formatter = ChatFormatter(loaded.tokenizer)
    batch = loaded.tokenizer(
        formatter.render(PROBE), add_special_tokens=formatter.add_special_tokens, return_tensors="pt"
    ).to(loaded.device)
    model: Any = loaded.model
    output = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=1,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return None if bool(torch.isfinite(output.logits[0]).all()) else "logits are not finite"


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
        )
    )
