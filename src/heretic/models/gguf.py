"""GGUF files: transformers dequantises them; what they leave behind in the configuration is removed here."""

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase


def gguf_arguments(gguf_file: str | None) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` that select a GGUF file in a folder."""
    return {} if gguf_file is None else {"gguf_file": gguf_file}


def without_gguf_traces(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a dequantised model an ordinary one, so that it can be saved and loaded again.

    A GGUF file has no generation configuration: the end token comes from its tokenizer.
    """
    configuration: Any = model.config
    if hasattr(configuration, "quantization_config"):
        del configuration.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False  # type: ignore[assignment]  # set on the instance by the GGUF quantizer
    generation: Any = model.generation_config
    if generation.eos_token_id is None:
        generation.eos_token_id = tokenizer.eos_token_id
    if generation.pad_token_id is None:
        generation.pad_token_id = tokenizer.pad_token_id
