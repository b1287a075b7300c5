"""Weights that are stored quantised: which of them become ordinary ones, and how."""

import inspect
from dataclasses import dataclass
from typing import Any

import transformers
from transformers import PreTrainedModel

from heretic.common.errors import ModelError
from heretic.models.private_api import forget_quantization

_WHILE_LOADING = {
    "fp8": "FineGrainedFP8Config",
    "mxfp8": "FineGrainedFP8Config",
    "mxfp4": "Mxfp4Config",
    "compressed-tensors": "CompressedTensorsConfig",
}
"""Methods of quantisation that transformers undoes while it loads -> what it is asked for that with."""
_BITSANDBYTES = "bitsandbytes"
_MADE_FROM = "name the model that it was made from"


@dataclass(frozen=True, slots=True)
class StoredForm:
    """How the weights of a model are quantised where they are stored.

    Attributes:
        method: As the configuration calls it, e.g. ``gptq``.
        setting: What --quantization calls the same, or None.
    """

    method: str
    setting: str | None = None

    @property
    def shown(self) -> str:
        """In words."""
        return (
            self.method if self.setting is None else f"{self.method}, {'4' if self.setting == 'bnb_4bit' else '8'} bit"
        )

    def remark(self, searched: bool) -> str:
        """What is said of such a model.

        Args:
            searched: Whether it is searched as it is, and dequantised only for saving.
        """
        when = "are dequantised for saving" if searched else "were dequantised"
        return (
            f"its weights, stored quantised ({self.shown}), {when}, and what is saved keeps the losses of that; to "
            f"have none, {_MADE_FROM}"
        )


def stored_form(configuration: Any) -> StoredForm | None:
    """How a configuration says that the weights are quantised, or None where they are ordinary ones."""
    stated = getattr(configuration, "quantization_config", None) or getattr(configuration, "compression_config", None)
    if stated is None:
        return None
    table: dict[str, Any] = stated if isinstance(stated, dict) else stated.to_dict()
    bits = next((bits for bits in ("4", "8") if table.get(f"load_in_{bits}bit")), None)
    method = table.get("quant_method") or (_BITSANDBYTES if bits else "unknown")
    method = str(getattr(method, "value", method)).lower()
    return StoredForm(method, f"bnb_{bits}bit" if method == _BITSANDBYTES and bits else None)


def check_form(name: str, form: StoredForm, quantization: str) -> None:
    """Refuse weights that could be searched but not saved, or neither.

    Args:
        name: The model, as the user typed it.
        form: How its weights are stored.
        quantization: The setting.

    Raises:
        ModelError: Says what to name instead.
    """
    if quantization not in ("none", form.setting):
        raise ModelError(
            f"The weights of {name} are stored quantised already ({form.shown}); use --quantization none, or "
            f"{_MADE_FROM} with --quantization {quantization}."
        )
    if form.setting is None and _undoing(form) is None:
        raise ModelError(
            f"The weights of {name} are stored quantised ({form.shown}), which transformers "
            f"{transformers.__version__} cannot undo, so an edit could not be saved; {_MADE_FROM}, with --quantization "
            "bnb_4bit where memory is short."
        )


def _undoing(form: StoredForm) -> Any:
    kind: Any = getattr(transformers, _WHILE_LOADING.get(form.method, ""), None)
    return None if kind is None or "dequantize" not in inspect.signature(kind).parameters else kind


def loading_arguments(form: StoredForm, quantization: str) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` by which quantised weights become ordinary ones while they are loaded."""
    undoing = _undoing(form) if quantization == "none" else None
    return {} if undoing is None else {"quantization_config": undoing(dequantize=True)}


def ordinary(model: PreTrainedModel, name: str, form: StoredForm) -> PreTrainedModel:
    """The model with all weights in floating point, in its own dtype; as if they had been stored so.

    Raises:
        ModelError: Some stayed quantised.
    """
    untyped: Any = model
    dtype = untyped.dtype
    if form.setting is not None:
        untyped = untyped.dequantize(dtype=dtype)
    packed = [
        key for key, tensor in untyped.named_parameters() if not tensor.is_floating_point() or tensor.itemsize < 2
    ]
    if packed:
        raise ModelError(
            f"The weights of {name} are stored quantised ({form.shown}) and could not be dequantised here ({packed[0]} "
            f"is packed still); {_MADE_FROM}."
        )
    forget_quantization(untyped)
    result: PreTrainedModel = untyped
    return result
