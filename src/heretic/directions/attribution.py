"""Direct attribution to attention heads: pure functions of tensors."""

import torch
from torch import Tensor


def head_attributions(weight: Tensor, read: Tensor, difference: Tensor, heads: int) -> Tensor:
    """What each head adds along a direction for target prompts more than for baseline prompts.

    A query head owns a block of columns of the output projection, so its part is r^T W[:, block] (x_t - x_b)[block].

    Args:
        weight: [D, m].
        read: [D], reads the direction from the projection's output.
        difference: [m], mean input for the target's prompts minus that for the baseline's, at the last prompt token.
        heads: H, a divisor of m.

    Returns:
        [H] fp32 or fp64; positive where the head writes towards the behaviour.
    """
    read = read.to(weight.device, torch.promote_types(read.dtype, torch.float32))
    parts = (read @ weight.to(read)) * difference.to(read)
    return parts.reshape(heads, -1).sum(-1)
