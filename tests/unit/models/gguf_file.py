"""A tiny GGUF file, written with the gguf package from a pico model, for the tests that load one."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np
import torch
from tests.models.pico import EOS, PAD, SPECIAL_TOKENS, VOCABULARY
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_MODEL_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(parameter: str) -> str:
    """Name that llama.cpp gives to a parameter of a Qwen2 model."""
    module, _, kind = parameter.rpartition(".")
    if module in _MODEL_NAMES:
        return f"{_MODEL_NAMES[module]}.{kind}"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[rest]}.{kind}"


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    quantized: str = "Q8_0",
    *,
    keys: Mapping[str, str | float] = MappingProxyType({}),
    tensors: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> None:
    """Write a Qwen2 model: matrices whose rows fill whole blocks in `quantized`, everything else in float32.

    Further keys and tensors are written as they are.
    """
    configuration = model.config
    writer = gguf.GGUFWriter(str(path), "qwen2")
    for key, value in keys.items():
        (writer.add_string if isinstance(value, str) else writer.add_float32)(key, value)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.add_block_count(configuration.num_hidden_layers)
    writer.add_context_length(configuration.max_position_embeddings)
    writer.add_embedding_length(configuration.hidden_size)
    writer.add_feed_forward_length(configuration.intermediate_size)
    writer.add_head_count(configuration.num_attention_heads)
    writer.add_head_count_kv(configuration.num_key_value_heads)
    writer.add_layer_norm_rms_eps(configuration.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCABULARY)
    _write_tokenizer(writer, tokenizer)
    kind = gguf.GGMLQuantizationType[quantized]
    for name, tensor in model.state_dict().items():
        values = tensor.to(torch.float32).numpy()
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = tokenizer.convert_ids_to_tokens(list(range(VOCABULARY)))
    # The format needs at least one merge, and its result has to be a token; the last byte is no part of UTF-8 text.
    tokens[tokens.index("\u00ff")] = "ab"
    kinds = [gguf.TokenType.CONTROL if token in SPECIAL_TOKENS else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(EOS)
    writer.add_pad_token_id(PAD)
    writer.add_chat_template(tokenizer.chat_template)
