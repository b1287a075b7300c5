"""Folders as repositories of the hub have them: pico models under the configuration keys that published models carry.

The sizes are small; which keys there are, where they stand and what they are called is as in the repositories.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tests.models.sizes import BOS, EOS, PAD, VOCABULARY
from tests.models.tokenizer import pico_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

_LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 32,
    "rope_type": "llama3",
}
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "initializer_range": 0.02,
    "use_cache": True,
}
_TOKENS = {"bos_token_id": BOS, "eos_token_id": EOS}
_WRITTEN = {"torch_dtype": "bfloat16", "transformers_version": "4.46.0"}
_GEMMA = {
    **_SIZES,
    "head_dim": 8,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 8,
    "rms_norm_eps": 1e-06,
    "pad_token_id": PAD,
    **_TOKENS,
}
_QWEN = {
    **_SIZES,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "max_window_layers": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    **_TOKENS,
    **_WRITTEN,
}

HUB_CONFIGURATIONS: Mapping[str, dict[str, Any]] = {
    "llama3": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **_SIZES,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "mlp_bias": False,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": _LLAMA3,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "bos_token_id": BOS,
        "eos_token_id": [EOS, PAD],
        **_WRITTEN,
    },
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **_QWEN, "sliding_window": 512},
    "qwen2_yarn": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **_QWEN,
        "sliding_window": 512,
        "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 128, "type": "yarn"},
    },
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **_QWEN,
        "attention_bias": False,
        "head_dim": 8,
        "rope_scaling": None,
        "sliding_window": None,
        "tie_word_embeddings": True,
    },
    "mistral": {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        **_SIZES,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        **_TOKENS,
        **_WRITTEN,
    },
    "phi": {
        "architectures": ["PhiForCausalLM"],
        "model_type": "phi",
        **_SIZES,
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "hidden_act": "gelu_new",
        "intermediate_size": 4 * 32,
        "layer_norm_eps": 1e-05,
        "num_key_value_heads": None,
        "partial_rotary_factor": 0.5,
        "qk_layernorm": False,
        "resid_pdrop": 0.0,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        **_TOKENS,
        **_WRITTEN,
    },
    "phi3": {
        "_name_or_path": "Phi-3-mini-128k-instruct",
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        **_SIZES,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "embd_pdrop": 0.0,
        "hidden_act": "silu",
        "original_max_position_embeddings": 128,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"long_factor": [1.1, 1.5, 3.0, 6.0], "short_factor": [1.0, 1.1, 1.3, 2.0], "type": "longrope"},
        "rope_theta": 10000.0,
        "sliding_window": 512,
        "tie_word_embeddings": False,
        "pad_token_id": PAD,
        **_TOKENS,
        **_WRITTEN,
    },
    "gemma2": {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        **_GEMMA,
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0,
        "hidden_act": "gelu_pytorch_tanh",
        "rope_theta": 10000.0,
        "sliding_window": 16,
        "sliding_window_size": 16,
        **_WRITTEN,
    },
    "gemma3_text": {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        **_GEMMA,
        "cache_implementation": "hybrid",
        "rope_local_base_freq": 1000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 16,
        "sliding_window_pattern": 2,
        **_WRITTEN,
    },
    "gemma3": {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": VOCABULARY - 2,
        "eoi_token_index": VOCABULARY - 3,
        "eos_token_id": [EOS, PAD],
        "image_token_index": VOCABULARY - 1,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 4,
        "model_type": "gemma3",
        "text_config": {
            **_GEMMA,
            "model_type": "gemma3_text",
            "rope_local_base_freq": 1000,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "rope_theta": 1000000,
            "sliding_window": 16,
            "sliding_window_pattern": 2,
            "torch_dtype": "bfloat16",
        },
        "vision_config": {
            "hidden_size": 24,
            "image_size": 16,
            "intermediate_size": 36,
            "model_type": "siglip_vision_model",
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "patch_size": 8,
            "vision_use_head": False,
        },
        "vocab_size": VOCABULARY,
        **_WRITTEN,
    },
    "mixtral": {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        **_SIZES,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "num_experts_per_tok": 2,
        "num_local_experts": 4,
        "output_router_logits": False,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.02,
        "sliding_window": None,
        "tie_word_embeddings": False,
        **_TOKENS,
        **_WRITTEN,
    },
    "qwen3_moe": {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        **_QWEN,
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "head_dim": 8,
        "mlp_only_layers": [],
        "moe_intermediate_size": 24,
        "norm_topk_prob": True,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "output_router_logits": False,
        "rope_scaling": None,
        "router_aux_loss_coef": 0.001,
        "sliding_window": None,
    },
}
"""By kind the config.json of a published model, with small sizes."""

HUB_GENERATION = {"_from_model_config": True, **_TOKENS, "temperature": 0.6, "top_k": 20, "top_p": 0.9}
"""Sampling options without sampling, as many published models have them."""
OTHER_FILES = {
    "tokenizer.model": b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02",
    "vocab.json": b'{"a": 0}',
    "merges.txt": b"#version: 0.2\n",
    "added_tokens.json": b"{}",
    "special_tokens_map.json": b'{"pad_token": "<|pad|>"}',
    "additional_chat_templates/tool_use.jinja": b"{{ messages[0]['content'] }}",
}
"""Files that transformers 5 does not write and other readers look for; what stands in them does not matter here."""


def auto_class(kind: str) -> Any:
    """The auto class that loads a kind with its language head."""
    return AutoModelForImageTextToText if "vision_config" in HUB_CONFIGURATIONS[kind] else AutoModelForCausalLM


def hub_model(kind: str, seed: int = 0) -> PreTrainedModel:
    """The model of a configuration in bfloat16, every parameter random but reproducible."""
    raw = json.loads(json.dumps(HUB_CONFIGURATIONS[kind]))
    config = AutoConfig.for_model(**raw)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto_class(kind).from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn_like(parameter)
                if parameter.ndim == 1:
                    parameter.add_(0.1 * noise)
                else:
                    parameter.copy_(0.15 * noise)
    model.requires_grad_(False)
    return model.to(torch.bfloat16).eval()


def write_hub_folder(kind: str, folder: Path) -> None:
    """Write such a repository: weights and tokenizer by transformers, configurations as they were published."""
    hub_model(kind).save_pretrained(folder)
    pico_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(HUB_CONFIGURATIONS[kind], indent=2), encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(HUB_GENERATION), encoding="utf-8")
    table = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    table = {key: value for key, value in table.items() if key not in ("backend", "extra_special_tokens", "is_local")}
    table |= {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "padding_side": "right"}
    (folder / "tokenizer_config.json").write_text(json.dumps(table), encoding="utf-8")
    for name, content in OTHER_FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
