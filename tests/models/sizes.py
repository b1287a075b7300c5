"""Sizes of the pico models: all different, so that a swapped axis raises instead of passing."""

from typing import Any

HIDDEN = 32
HEADS = 4
KEY_VALUE_HEADS = 2
HEAD_SIZE = 10
INNER = 52
EXPERT_INNER = 28
SHARED_INNER = 44
EXPERTS = 5
EXPERTS_PER_TOKEN = 2
LAYERS = 3
POSITIONS = 512

SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<image>")
VOCABULARY = 256 + len(SPECIAL_TOKENS)
PAD, EOS, BOS = 256, 257, 258
IMAGE = VOCABULARY - 1


def base_options(**changes: Any) -> dict[str, Any]:
    """Arguments that nearly every decoder configuration takes."""
    options: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": False,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "bos_token_id": BOS,
    }
    return {name: value for name, value in (options | changes).items() if value is not None}


def moe_options(**changes: Any) -> dict[str, Any]:
    """Arguments of Qwen-like mixtures of experts."""
    experts = {
        "num_experts": EXPERTS,
        "num_experts_per_tok": EXPERTS_PER_TOKEN,
        "moe_intermediate_size": EXPERT_INNER,
    }
    return base_options(**(experts | changes))
