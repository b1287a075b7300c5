"""Pico models: every architecture family that Heretic edits, tiny, random and built without a network.

All sizes differ from each other wherever the architecture allows it, so that a swapped axis raises instead of passing,
and every parameter is random (biases, norm gains), so that a forgotten term changes numbers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle
from typing import Any, TypeVar

import pytest
import torch
from tests.models.list_moe import PicoExpert, PicoListMoeConfig, PicoListMoeForCausalLM
from tests.models.sizes import (
    BOS,
    EOS,
    EXPERT_INNER,
    EXPERTS,
    EXPERTS_PER_TOKEN,
    HEAD_SIZE,
    HEADS,
    HIDDEN,
    IMAGE,
    INNER,
    KEY_VALUE_HEADS,
    LAYERS,
    PAD,
    POSITIONS,
    SHARED_INNER,
    SPECIAL_TOKENS,
    VOCABULARY,
    base_options,
    moe_options,
)
from tests.models.tokenizer import CHAT_TEMPLATE, pico_tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)

__all__ = [
    "BOS",
    "CHAT_TEMPLATE",
    "CONV1D",
    "CONVOLUTION",
    "EOS",
    "EXPERTS",
    "EXPERTS_PER_TOKEN",
    "EXPERT_INNER",
    "FUSED_IN_OUT",
    "FUSED_OUT_IN",
    "GPT2_OPTIONS",
    "HEADS",
    "HEAD_SIZE",
    "HIDDEN",
    "IMAGE",
    "INNER",
    "KEY_VALUE_HEADS",
    "KINDS",
    "LAYERS",
    "LINEAR_ATTENTION",
    "LIST_EXPERTS",
    "PAD",
    "PICO_FAMILIES",
    "PICO_MODELS",
    "POSITIONS",
    "POST_NORM",
    "SHARED_EXPERTS",
    "SHARED_INNER",
    "SPECIAL_TOKENS",
    "STATE_SPACE",
    "VISION",
    "VOCABULARY",
    "PicoExpert",
    "PicoFamily",
    "PicoListMoeConfig",
    "PicoListMoeForCausalLM",
    "base_options",
    "build_family",
    "build_pico",
    "families_with",
    "kinds_first",
    "moe_options",
    "pico_names",
    "pico_token_ids",
    "pico_tokenizer",
]

T = TypeVar("T")

CONV1D = "conv1d"
FUSED_OUT_IN = "fused_out_in"
FUSED_IN_OUT = "fused_in_out"
LIST_EXPERTS = "list_experts"
SHARED_EXPERTS = "shared_experts"
POST_NORM = "post_norm"
LINEAR_ATTENTION = "linear_attention"
CONVOLUTION = "convolution"
STATE_SPACE = "state_space"
VISION = "vision"


@dataclass(frozen=True)
class PicoFamily:
    """One row of the matrix.

    Attributes:
        name: Key in PICO_MODELS.
        model_type: transformers' model type; a family of our own class names the class's.
        options: Configuration arguments.
        traits: What is special about it, for tests that need one.
        text_options: Arguments of the text configuration of a vision-language model.
        model_class: Class to build, where the auto classes do not know it.
        writes_per_layer: Residual writers of each layer; an expert list counts each expert.
    """

    name: str
    model_type: str
    options: Mapping[str, Any]
    writes_per_layer: tuple[int, ...]
    traits: frozenset[str] = frozenset()
    text_options: Mapping[str, Any] | None = None
    model_class: type[PreTrainedModel] | None = field(default=None)

    def config(self) -> PreTrainedConfig:
        """A fresh configuration."""
        options = dict(self.options)
        if self.text_options is not None:
            options["text_config"] = dict(self.text_options)
        if self.model_class is not None:
            return self.model_class.config_class(**options)
        return AutoConfig.for_model(self.model_type, **options)

    def build(self) -> PreTrainedModel:
        """A model with the constructor's own initial values."""
        config = self.config()
        if self.model_class is not None:
            return self.model_class(config)
        auto_class = AutoModelForCausalLM if self.text_options is None else AutoModelForImageTextToText
        return auto_class.from_config(config)


def _family(
    name: str,
    model_type: str,
    options: Mapping[str, Any],
    writes_per_layer: int | tuple[int, ...],
    *traits: str,
    **extra: Any,
) -> PicoFamily:
    writes = (writes_per_layer,) * LAYERS if isinstance(writes_per_layer, int) else writes_per_layer
    return PicoFamily(name, model_type, options, writes, frozenset(traits), **extra)


GPT2_OPTIONS = {
    "vocab_size": VOCABULARY,
    "n_positions": POSITIONS,
    "n_embd": HIDDEN,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_inner": INNER,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": BOS,
}
_GPT_OSS = base_options(
    intermediate_size=EXPERT_INNER,
    num_local_experts=EXPERTS,
    num_experts_per_tok=EXPERTS_PER_TOKEN,
    sliding_window=16,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)
_GATED_DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 14,
    "linear_conv_kernel_dim": 4,
}
_LATENT_ATTENTION = {
    "head_dim": None,
    "num_key_value_heads": HEADS,
    "q_lora_rank": 22,
    "kv_lora_rank": 18,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
}
_LFM2_LAYERS = ["conv", "full_attention", "conv"]
_LFM2 = {
    "layer_types": _LFM2_LAYERS,
    "head_dim": None,
    "block_auto_adjust_ff_dim": False,
    "conv_bias": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
CHUNK = 16
"""Tokens that state spaces compute at a time: their own 256 would be mostly padding, and never more than one chunk."""
_VISION = {
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}

_ROWS = (
    _family("llama", "llama", base_options(attention_bias=True, mlp_bias=True), 2),
    _family("qwen2", "qwen2", base_options(head_dim=None), 2),
    _family("qwen3", "qwen3", base_options(), 2),
    _family("mistral", "mistral", base_options(sliding_window=16), 2),
    _family("phi3", "phi3", base_options(head_dim=None), 2),
    _family(
        "granite",
        "granite",
        base_options(head_dim=None, residual_multiplier=0.3, attention_multiplier=0.2, embedding_multiplier=3.0),
        2,
    ),
    _family("stablelm", "stablelm", base_options(head_dim=None, use_parallel_residual=True), 2),
    _family("cohere", "cohere", base_options(head_dim=None), 2),
    _family("starcoder2", "starcoder2", base_options(head_dim=None, use_bias=True), 2),
    _family("gpt2", "gpt2", GPT2_OPTIONS, 2, CONV1D),
    _family(
        "gpt_neox", "gpt_neox", base_options(head_dim=None, num_key_value_heads=None, use_parallel_residual=True), 2
    ),
    _family("phi", "phi", base_options(head_dim=None), 2),
    _family(
        "gptj",
        "gptj",
        {name: value for name, value in GPT2_OPTIONS.items() if name != "n_inner"}
        | {"n_inner": INNER, "rotary_dim": 4},
        2,
    ),
    _family(
        "falcon",
        "falcon",
        base_options(
            head_dim=None, intermediate_size=None, ffn_hidden_size=INNER, bias=True, new_decoder_architecture=True
        ),
        2,
    ),
    _family(
        "bloom",
        "bloom",
        {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "pad_token_id": PAD},
        2,
    ),
    _family(
        "opt",
        "opt",
        base_options(head_dim=None, intermediate_size=None, ffn_dim=INNER, word_embed_proj_dim=HIDDEN),
        2,
    ),
    _family("gemma2", "gemma2", base_options(sliding_window=16, query_pre_attn_scalar=10), 2, POST_NORM),
    _family("gemma3_text", "gemma3_text", base_options(sliding_window=16, query_pre_attn_scalar=10), 2, POST_NORM),
    _family("olmo2", "olmo2", base_options(head_dim=None), 2, POST_NORM),
    _family("glm4", "glm4", base_options(pad_token_id=PAD), 2, POST_NORM),
    _family("exaone4", "exaone4", base_options(head_dim=None), 2, POST_NORM),
    _family(
        "gemma4_moe",
        "gemma4_text",
        base_options(
            enable_moe_block=True,
            num_experts=EXPERTS,
            top_k_experts=EXPERTS_PER_TOKEN,
            moe_intermediate_size=EXPERT_INNER,
            hidden_size_per_layer_input=6,
            vocab_size_per_layer_input=VOCABULARY,
            num_kv_shared_layers=0,
            global_head_dim=14,
            sliding_window=16,
        ),
        4,
        POST_NORM,
        FUSED_OUT_IN,
    ),
    _family("list_moe", "pico_list_moe", base_options(), 1 + EXPERTS, LIST_EXPERTS, model_class=PicoListMoeForCausalLM),
    _family(
        "mixtral",
        "mixtral",
        base_options(intermediate_size=EXPERT_INNER, num_local_experts=EXPERTS, num_experts_per_tok=EXPERTS_PER_TOKEN),
        2,
        FUSED_OUT_IN,
    ),
    _family("qwen3_moe", "qwen3_moe", moe_options(), 2, FUSED_OUT_IN),
    _family(
        "qwen2_moe",
        "qwen2_moe",
        moe_options(head_dim=None, shared_expert_intermediate_size=SHARED_INNER),
        3,
        FUSED_OUT_IN,
        SHARED_EXPERTS,
    ),
    _family(
        "deepseek_v3",
        "deepseek_v3",
        base_options(
            **_LATENT_ATTENTION,
            moe_intermediate_size=EXPERT_INNER,
            n_routed_experts=6,
            num_experts_per_tok=EXPERTS_PER_TOKEN,
            n_shared_experts=1,
            n_group=2,
            topk_group=1,
            first_k_dense_replace=1,
        ),
        (2, 3, 3),
        FUSED_OUT_IN,
        SHARED_EXPERTS,
    ),
    _family("gpt_oss", "gpt_oss", _GPT_OSS, 2, FUSED_IN_OUT),
    _family("gpt_oss_square", "gpt_oss", _GPT_OSS | {"intermediate_size": HIDDEN}, 2, FUSED_IN_OUT),
    _family(
        "llama4_text",
        "llama4_text",
        base_options(
            intermediate_size=EXPERT_INNER,
            intermediate_size_mlp=INNER,
            num_local_experts=EXPERTS,
            num_experts_per_tok=1,
            moe_layers=[1, 2],
            layer_types=["chunked_attention", "chunked_attention", "full_attention"],
        ),
        (2, 3, 3),
        FUSED_IN_OUT,
        SHARED_EXPERTS,
    ),
    _family(
        "qwen3_next",
        "qwen3_next",
        moe_options(
            **_GATED_DELTA,
            shared_expert_intermediate_size=SHARED_INNER,
            layer_types=["linear_attention", "linear_attention", "full_attention"],
        ),
        3,
        FUSED_OUT_IN,
        SHARED_EXPERTS,
        LINEAR_ATTENTION,
    ),
    _family("lfm2", "lfm2", base_options(**_LFM2), 2, CONVOLUTION),
    _family(
        "lfm2_moe",
        "lfm2_moe",
        moe_options(**_LFM2, num_dense_layers=1),
        2,
        CONVOLUTION,
        FUSED_OUT_IN,
    ),
    _family(
        "granitemoehybrid",
        "granitemoehybrid",
        base_options(
            head_dim=None,
            intermediate_size=EXPERT_INNER,
            shared_intermediate_size=SHARED_INNER,
            num_local_experts=EXPERTS,
            num_experts_per_tok=EXPERTS_PER_TOKEN,
            layer_types=["mamba", "attention", "mamba"],
            mamba_n_heads=4,
            mamba_d_head=16,
            mamba_d_state=8,
            mamba_n_groups=1,
            mamba_chunk_size=CHUNK,
            residual_multiplier=0.5,
        ),
        3,
        FUSED_OUT_IN,
        SHARED_EXPERTS,
        STATE_SPACE,
    ),
    _family(
        "nemotron_h",
        "nemotron_h",
        base_options(
            num_hidden_layers=None,
            layers_block_type=["mamba", "attention", "moe", "mlp"],
            mamba_num_heads=4,
            mamba_head_dim=18,
            ssm_state_size=8,
            chunk_size=CHUNK,
            n_groups=1,
            n_routed_experts=EXPERTS,
            num_experts_per_tok=EXPERTS_PER_TOKEN,
            n_group=1,
            topk_group=1,
            moe_intermediate_size=EXPERT_INNER,
            moe_shared_expert_intermediate_size=SHARED_INNER,
            moe_latent_size=20,
        ),
        (1, 1, 2, 1),
        SHARED_EXPERTS,
        STATE_SPACE,
    ),
    _family(
        "falcon_h1",
        "falcon_h1",
        base_options(
            mamba_d_ssm=72,
            mamba_n_heads=4,
            mamba_d_head=18,
            mamba_d_state=8,
            mamba_n_groups=1,
            mamba_chunk_size=CHUNK,
        ),
        3,
        STATE_SPACE,
    ),
    _family(
        "jamba",
        "jamba",
        base_options(
            head_dim=None,
            num_experts=EXPERTS,
            num_experts_per_tok=EXPERTS_PER_TOKEN,
            attn_layer_period=3,
            attn_layer_offset=1,
            expert_layer_period=2,
            expert_layer_offset=1,
            use_mamba_kernels=False,
            mamba_d_state=8,
            mamba_dt_rank=6,
        ),
        2,
        STATE_SPACE,
        FUSED_OUT_IN,
    ),
    _family(
        "recurrent_gemma",
        "recurrent_gemma",
        base_options(
            head_dim=None,
            lru_width=40,
            attention_window_size=16,
            block_types=("recurrent", "recurrent", "attention"),
        ),
        2,
        LINEAR_ATTENTION,
    ),
    _family(
        "llava",
        "llava",
        {
            "vision_config": {"model_type": "clip_vision_model", **_VISION, "projection_dim": 24},
            "image_token_index": IMAGE,
            "vision_feature_layer": -1,
        },
        2,
        VISION,
        text_options={"model_type": "llama", **base_options()},
    ),
    _family(
        "gemma3",
        "gemma3",
        {
            "vision_config": {"model_type": "siglip_vision_model", **_VISION},
            "mm_tokens_per_image": 4,
            "image_token_index": IMAGE,
            "boi_token_index": IMAGE - 1,
            "eoi_token_index": IMAGE - 2,
        },
        2,
        VISION,
        POST_NORM,
        text_options={"model_type": "gemma3_text", **base_options(sliding_window=16, query_pre_attn_scalar=10)},
    ),
    _family(
        "qwen2_5_vl",
        "qwen2_5_vl",
        {
            "vision_config": {
                "depth": 1,
                "hidden_size": 24,
                "intermediate_size": 36,
                "num_heads": 2,
                "out_hidden_size": HIDDEN,
                "fullatt_block_indexes": [0],
            },
            "image_token_id": IMAGE,
            "video_token_id": IMAGE - 1,
            "vision_start_token_id": IMAGE - 2,
            "vision_end_token_id": IMAGE - 3,
        },
        2,
        VISION,
        text_options={
            "model_type": "qwen2_5_vl_text",
            **base_options(head_dim=None),
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
    ),
)

PICO_FAMILIES: Mapping[str, PicoFamily] = {row.name: row for row in _ROWS}
"""Every row by name."""

PICO_MODELS: Mapping[str, Callable[[], PreTrainedModel]] = {
    name: (lambda name=name: build_pico(name)) for name in PICO_FAMILIES
}
"""Builders by name: float32, seed 0."""


def pico_names(*traits: str) -> list[str]:
    """Names of the families that have all the traits; all names where none is given."""
    return [name for name, family in PICO_FAMILIES.items() if family.traits.issuperset(traits)]


KINDS = (
    "llama",
    "gpt2",
    "gemma3_text",
    "gemma4_moe",
    "list_moe",
    "qwen2_moe",
    "deepseek_v3",
    "gpt_oss",
    "gpt_oss_square",
    "llama4_text",
    "qwen3_next",
    "lfm2",
    "falcon_h1",
    "jamba",
    "llava",
)
"""One family for each kind of residual writer, cache and layer."""


def families_with(values: Sequence[T], families: Iterable[str] = PICO_FAMILIES) -> list[tuple[str, T]]:
    """Instead of all families with all values: one family of each kind with all, and each other with one, in turn."""
    turn = cycle(values)
    return [(name, value) for name in families for value in (values if name in KINDS else [next(turn)])]


def kinds_first(
    values: Sequence[tuple[Any, ...]] = ((),), families: Iterable[str] = PICO_FAMILIES, also: Sequence[str] = ()
) -> list[Any]:
    """Parameters as `families_with` has them, but only one family of each kind, and those of `also`, before the night.

    For dear tests whose parts are compared on every family by cheaper ones.
    """
    return [
        pytest.param(name, *value, marks=() if name in KINDS or name in also else pytest.mark.slow)
        for name, value in families_with(values, families)
    ]


def build_pico(name: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A pico model in evaluation mode, gradients off, every parameter random but reproducible; the caller's own."""
    return deepcopy(_built(name, seed, dtype))


@cache
def _built(name: str, seed: int, dtype: torch.dtype) -> PreTrainedModel:
    # Building takes two to three times as long as copying.
    return build_family(PICO_FAMILIES[name], seed, dtype)


def build_family(family: PicoFamily, seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """What `build_pico` does, for a family that is not in the matrix."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family.build()
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn_like(parameter, dtype=torch.float32)
                if parameter.ndim == 1:
                    parameter.add_(0.1 * noise)
                else:
                    parameter.copy_(0.15 * noise)
    model.requires_grad_(False)
    return model.to(dtype).eval()


def pico_token_ids(batch: int = 2, length: int = 9, seed: int = 0) -> torch.Tensor:
    """Random token ids [batch, length] without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, length), generator=generator)
