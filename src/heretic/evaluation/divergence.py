"""Kullback-Leibler divergence of next-token distributions: pure tensor functions."""

import torch
from torch import Tensor


def kl_divergence(base: Tensor, edited: Tensor) -> Tensor:
    """KL(base || edited) per position, over the full vocabulary.

    Args:
        base: [..., V] log-probabilities of the unedited model; minus infinity where a token is suppressed.
        edited: [..., V] log-probabilities of the edited model.

    Returns:
        [...] in nats, not negative.
    """
    possible = torch.isfinite(base)
    terms = torch.where(possible, base.exp() * (base - edited), torch.zeros_like(base))
    # Rounding can leave a sum of nothing slightly below zero.
    return terms.sum(-1).clamp_min(0)


def top1_agreement(base: Tensor, edited: Tensor) -> Tensor:
    """Whether both distributions have the same most likely token: [...] bool."""
    return base.argmax(-1) == edited.argmax(-1)
