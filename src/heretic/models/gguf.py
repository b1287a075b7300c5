"""GGUF files: transformers dequantises them; what it leaves behind or leaves out is mended or named here."""

import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from gguf import GGUFReader
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heretic.common.errors import ModelError
from heretic.models.location import Location
from heretic.models.private_api import forget_quantization, gguf_keys, gguf_tensors
from heretic.observability.events import Warned, emit

_FACTORS = "rope_freqs.weight"
_LONG_FACTORS = ("rope_factors_long.weight", "rope_factors_short.weight")
_SCALING = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
}
"""Keys below ``rope.scaling.`` -> entries of `rope_parameters`."""
_HARMLESS = ("general.", "GGUF.", "split.", "quantize.", "tokenizer.chat_template", "tokenizer.ggml.model")
"""Beginnings of keys that say nothing of what the model computes, or that transformers reads elsewhere."""
_FACTOR_TOLERANCE = 1e-3
"""Largest relative difference of a file's rotary factors and those of the parameters that are made of them."""
_USUAL_CONTEXT = 8192
_USUAL_HIGH = 4.0
_NAMED = 12


def gguf_arguments(gguf_file: str | None) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` that select a GGUF file in a folder."""
    return {} if gguf_file is None else {"gguf_file": gguf_file}


def dequantized() -> dict[str, Any]:
    """Keyword arguments of a model's `from_pretrained` that ask for ordinary weights.

    Recent versions of transformers keep the packed blocks where a kernel for them is installed; older ones always
    dequantise, and know no configuration for it.
    """
    configuration: Any = getattr(transformers, "GgufConfig", None)
    return {} if configuration is None else {"quantization_config": configuration(dequantize=True)}


def without_gguf_traces(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a dequantised model an ordinary one, so that it can be saved and loaded again.

    A GGUF file has no generation configuration: the end token comes from its tokenizer.
    """
    untyped: Any = model
    forget_quantization(model)
    untyped.config.architectures = [type(model).__name__]
    generation = untyped.generation_config
    if generation.eos_token_id is None or tokenizer.eos_token_id is not None:
        generation.eos_token_id = tokenizer.eos_token_id


def _reader(path: Path) -> GGUFReader:
    """A file's keys and tensors; a vocabulary takes seconds to read, so that is done once while a model is loaded."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: Path, _changed: int) -> GGUFReader:
    return GGUFReader(path)


def restore_rope(configuration: Any, location: Location) -> None:
    """Put a GGUF file's scaling of rotary positions into a configuration, where transformers leaves it out.

    llama.cpp stores Llama 3's as one factor a frequency, others as keys.

    Raises:
        ModelError: The file scales them in a way that cannot be restored; its numbers would be wrong at every position.
    """
    if location.gguf_file is None:
        return
    path = Path(location.source) / location.gguf_file
    text = configuration.get_text_config()
    rope = getattr(text, "rope_parameters", None)
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default" or "rope_theta" not in rope:
        return
    reader = _reader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    architecture = reader.fields["general.architecture"].contents()
    keys = {name: field for name, field in reader.fields.items() if name.startswith(f"{architecture}.rope.scaling.")}
    values = {name.rpartition("rope.scaling.")[2]: field.contents() for name, field in keys.items()}
    kind = values.get("type", "none")
    if kind == "longrope" or any(name in tensors for name in _LONG_FACTORS):
        raise ModelError(
            f"{path.name} scales its rotary positions by LongRoPE; name the model's own repository instead."
        )
    if _FACTORS in tensors:
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        factors = torch.tensor(tensors[_FACTORS].data.tolist(), dtype=torch.float64)
        context = int(values.get("original_context_length", _USUAL_CONTEXT))
        scaling = llama3_scaling(factors, float(rope["rope_theta"]), head, context)
        if scaling is None:
            raise ModelError(
                f"{path.name} scales its rotary positions by factors ({_FACTORS}) that are not Llama 3's; name the "
                "model's own repository instead."
            )
    elif kind in ("linear", "yarn"):
        scaling = {"rope_type": kind} | {_SCALING[name]: value for name, value in values.items() if name in _SCALING}
    elif kind == "none":
        return
    else:
        raise ModelError(f"{path.name} scales its rotary positions by {kind}; name the model's own repository instead.")
    text.rope_parameters = {**rope, **scaling}


def llama3_scaling(factors: Tensor, theta: float, head_size: int, context: int) -> dict[str, Any] | None:
    """Llama 3's `rope_parameters` that divide the frequencies by these factors; none where no frequency changes.

    Between the two wavelengths where scaling begins and is complete, 1 / factor is linear in the frequency, so its
    slope and offset tell the parameters but for one common scale, which Llama 3's low_freq_factor of 1 settles.

    Args:
        factors: [head_size / 2], from the highest frequency to the lowest.
        theta: Base of the frequencies.
        head_size: Rotated numbers of a head.
        context: Original context that is tried where too few factors lie in between to tell it.

    Returns:
        Without rope_theta; empty where all factors are 1, None where they are no Llama 3's.
    """
    factors = factors.double()
    largest = float(factors.max())
    if len(factors) != head_size // 2 or not math.isfinite(largest) or float(factors.min()) <= 0:
        return None
    if largest <= 1 + _FACTOR_TOLERANCE:
        return {}
    waves = _wavelengths(theta, head_size)
    is_one, is_largest = factors <= 1 + _FACTOR_TOLERANCE, factors >= largest * (1 - _FACTOR_TOLERANCE)
    between = ~is_one & ~is_largest
    smooth = (1 / factors[between] - 1 / largest) / (1 - 1 / largest)
    candidates = [(_USUAL_HIGH, float(context))]
    if len(smooth) >= 2:
        design = torch.stack((1 / waves[between], torch.ones_like(smooth)), dim=1)
        slope, offset = torch.linalg.lstsq(design, smooth[:, None]).solution[:, 0].tolist()
        if offset < 0 < slope:
            candidates.insert(0, (round(1 - 1 / offset, 3), float(round(-slope / offset))))
    elif len(smooth) == 1:
        candidates.append((_USUAL_HIGH, float(waves[between] * (1 + (_USUAL_HIGH - 1) * smooth))))
    elif bool(is_one.any()):
        # Whatever lies between the last frequency that stays and the first that is divided by all gives these factors.
        candidates.append((_USUAL_HIGH, float((_USUAL_HIGH * waves[is_one].max() * waves[is_largest].min()).sqrt())))
    for high, original in candidates:
        expected = _llama3_factors(waves, largest, high, round(original))
        if bool(((expected / factors - 1).abs() <= _FACTOR_TOLERANCE).all()):
            return {
                "rope_type": "llama3",
                "factor": round(largest, 4),
                "low_freq_factor": 1.0,
                "high_freq_factor": high,
                "original_max_position_embeddings": round(original),
            }
    return None


def _wavelengths(theta: float, head_size: int) -> Tensor:
    return 2 * math.pi * theta ** (torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)


def _llama3_factors(waves: Tensor, factor: float, high: float, original: int) -> Tensor:
    """What each frequency is divided by, with low_freq_factor 1."""
    smooth = ((original / waves - 1) / (high - 1)).clamp(0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def name_unused(path: Path, model: PreTrainedModel, unexpected: Iterable[str]) -> None:
    """Say once, as a Warned event, which keys and tensors of a file nobody used; harmless ones are left out.

    Args:
        path: The file.
        model: What was made of it.
        unexpected: Tensors that transformers says it did not use.
    """
    unused = unused_parts(_reader(path), model) + sorted(unexpected)
    _read.cache_clear()
    if unused:
        further = f" and {len(unused) - _NAMED} more" if len(unused) > _NAMED else ""
        named = ", ".join(unused[:_NAMED])
        emit(Warned(f"transformers does not use these parts of {path.name}: {named}{further}."))


def unused_parts(reader: GGUFReader, model: PreTrainedModel) -> list[str]:
    """Keys, then tensors of a file that are neither used nor known to be harmless."""
    text: Any = model.config.get_text_config()
    architecture = reader.fields["general.architecture"].contents()
    used_keys, used_tensors = gguf_keys(architecture), gguf_tensors(model, architecture)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    rope = getattr(text, "rope_parameters", None) or {}
    scaled = rope.get("rope_type", "default") != "default"
    # What the configuration says in another way; where it does not say the same, the key is named.
    said = {
        "rope.dimension_count": int(head * (rope.get("partial_rotary_factor") or 1)),
        "attention.key_length": head,
        "attention.value_length": head,
        "vocab_size": text.vocab_size,
    }

    def is_used(name: str) -> bool:
        short = name.removeprefix(f"{architecture}.")
        restored = scaled and short.startswith("rope.scaling.")
        return name in used_keys or restored or (short in said and reader.fields[name].contents() == said[short])

    keys = [name for name in reader.fields if not name.startswith(_HARMLESS) and not is_used(name)]
    names = [tensor.name for tensor in reader.tensors]
    # The factors were looked at, see `restore_rope`.
    tensors = [name for name in names if used_tensors is not None and name not in {*used_tensors, _FACTORS}]
    return (keys if used_keys else []) + tensors
