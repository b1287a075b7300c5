"""An adapter that belongs to a model: merged into its weights as soon as they are loaded."""

import warnings
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from heretic.common.errors import ModelError, first_line
from heretic.models.devices import is_out_of_memory
from heretic.models.location import ADAPTER, Location
from heretic.models.model_files import ADAPTER_WEIGHTS, read_json

MERGEABLE = ("LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT")
"""Kinds of adapters that PEFT merges, and that load nothing but their own folder."""
_NAMED = 3
"""Tensors that a message names."""
REMARK = "an adapter was merged into its weights in memory"
WITHOUT_ADAPTER = {"adapter_kwargs": {"subfolder": "no adapter is to be found here"}}
"""Arguments of `from_pretrained` that keep transformers from adding what lies beside the weights."""


def check_adapter(location: Location, quantization: str) -> None:
    """Refuse an adapter that could not be merged.

    Args:
        location: A model with an adapter.
        quantization: The setting.

    Raises:
        ModelError: Its kind, or the model's quantisation, does not allow it, or its weights are missing.
    """
    if location.adapter is None:
        return
    folder = Path(location.adapter)
    kind = read_json(folder / ADAPTER).get("peft_type")
    # PEFT would look for them in a repository of the folder's name.
    if not any((folder / name).is_file() for name in ADAPTER_WEIGHTS):
        raise ModelError(f"{folder} holds {ADAPTER}, but not {ADAPTER_WEIGHTS[0]}; get the adapter again.")
    if kind not in MERGEABLE:
        raise ModelError(
            f"{location.name} holds an adapter of the kind {kind!r}, which cannot be merged; move its {ADAPTER} away "
            "to edit the model without it."
        )
    if quantization != "none":
        raise ModelError(
            f"{location.name} holds an adapter, which is merged in full precision alone; use --quantization "
            "none, or merge it, save the result and name that."
        )


def merged(model: PreTrainedModel, location: Location) -> PreTrainedModel:
    """The model with the adapter in its weights, as if these had been trained so; the model given is used up.

    Raises:
        ModelError: The adapter does not fit the model.
    """
    # PEFT takes seconds to import, and only models with adapters need it.
    from peft import PeftConfig, PeftModel

    folder = str(location.adapter)
    try:
        with warnings.catch_warnings():
            # What does not fit is told below, by the tensors' names.
            warnings.simplefilter("ignore")
            adapted: Any = PeftModel(model, PeftConfig.from_pretrained(folder))
            result = adapted.load_adapter(folder, "default")
        differing = [*result.missing_keys, *result.unexpected_keys]
        if differing:
            raise ModelError(_unfit(location, f"tensors without a counterpart: {', '.join(differing[:_NAMED])}"))
        plain: PreTrainedModel = adapted.merge_and_unload()
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(_unfit(location, first_line(error))) from error
    return plain


def _unfit(location: Location, detail: str) -> str:
    advice = f"name the model it was made for in its {ADAPTER} (base_model_name_or_path)"
    if location.adapter == location.source:
        advice = f"move its {ADAPTER} away to edit the model without it"
    return f"The adapter in {location.adapter} does not fit {location.source} ({detail}); {advice}."
