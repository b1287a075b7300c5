"""Weights packed by bitsandbytes: recognising and unpacking them."""

from typing import Any

from torch import Tensor, nn

BITSANDBYTES_CLASSES = frozenset({"Linear4bit", "Linear8bitLt", "LinearNF4", "LinearFP4"})


def is_quantized(module: nn.Module) -> bool:
    """Whether a linear module's weight is packed by bitsandbytes."""
    return type(module).__name__ in BITSANDBYTES_CLASSES


def dequantized_weight(module: Any) -> Tensor:
    """The weight [D, m] of a bitsandbytes linear module in floating point."""
    import bitsandbytes.functional as bnb_functional

    weight = module.weight
    if hasattr(weight, "quant_state") and weight.quant_state is not None:
        result: Tensor = bnb_functional.dequantize_4bit(weight.data, weight.quant_state)
        return result
    # Row-wise absolute maxima scale the 8-bit codes; before the first forward pass they hang on the weight itself.
    scale = weight.SCB if weight.SCB is not None else module.state.SCB
    codes: Tensor = weight.CB if weight.CB is not None else weight.data
    weight_8bit: Tensor = codes.float() * scale.float()[:, None] / 127
    return weight_8bit
