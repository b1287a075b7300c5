"""What an RMSNorm adds to its stored weight to get its gain: measured on the module, not guessed from its name."""

import torch
from torch import nn

from heretic.models.storage import own_parameters

TOLERANCE = 0.05
"""Largest mean deviation of the measured gain from the stated one; bfloat16 keeps three digits."""


def norm_offset(norm: nn.Module) -> float | None:
    """Return 1.0 where the gain is 1 + weight (Gemma), 0.0 where it is the weight, None where it is neither.

    The probe is a vector of ones with alternating signs: its mean is zero and its root mean square is one, so a norm
    returns the gain itself, with those signs. A norm without a weight has gain one, which counts as offset 0.
    """
    weight = own_parameters(norm).get("weight")
    if weight is None:
        return 0.0 if next(norm.parameters(), None) is None else None
    if weight.device.type == "meta" or weight.ndim != 1:
        return None
    signs = torch.ones_like(weight)
    signs[1::2] = -1
    with torch.no_grad():
        output = norm(signs.reshape(1, 1, -1))
        gain = (output.reshape(-1) * signs).float()
    stored = weight.detach().float()
    errors = {offset: float((gain - stored - offset).abs().mean()) for offset in (0.0, 1.0)}
    best = min(errors, key=lambda offset: errors[offset])
    scale = max(1.0, float(gain.abs().mean()))
    return best if errors[best] <= TOLERANCE * scale else None
