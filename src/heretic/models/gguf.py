"""GGUF files: transformers dequantises them; what they leave behind in the configuration is removed here."""

from typing import Any

import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
    # Some of these stay behind in some versions of transformers; each alone stops the saving or the loading again.
    for owner, name in (
        (untyped, "hf_quantizer"),
        (untyped, "quantization_method"),
        (untyped.config, "quantization_config"),
    ):
        if hasattr(owner, name):
            delattr(owner, name)
    untyped.is_quantized = False
    untyped.config.architectures = [type(model).__name__]
    generation = untyped.generation_config
    if generation.eos_token_id is None or tokenizer.eos_token_id is not None:
        generation.eos_token_id = tokenizer.eos_token_id
