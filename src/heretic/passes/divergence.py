"""Kullback-Leibler divergence of next-token distributions: pure tensor functions."""

import torch
from torch import Tensor

POSITIONS_AT_ONCE = 4
"""On a CPU: what is computed of so many positions on the way fits its caches (benchmarks/README.md)."""


def kl_divergence(base: Tensor, edited: Tensor) -> Tensor:
    """KL(base || edited) per position, over the full vocabulary, in fp32 (fp64 for fp64 input).

    Args:
        base: [..., V] logits (or log-probabilities: a constant per position makes no difference) of the original model;
            minus infinity where a token is suppressed.
        edited: [..., V] logits of the edited model.

    Returns:
        [...] in nats, not negative.
    """
    if base.ndim == 2 and base.device.type == "cpu" and len(base) > POSITIONS_AT_ONCE:
        parts = zip(*(torch.split(logits, POSITIONS_AT_ONCE) for logits in (base, edited)), strict=True)
        return torch.cat([kl_divergence(*part) for part in parts])
    dtype = torch.float64 if base.dtype == torch.float64 else torch.float32
    base, edited = base.to(dtype), edited.to(dtype)
    normalizer = base.logsumexp(-1, keepdim=True)
    probabilities = (base - normalizer).exp_()
    # KL = E[base - edited] + log Z(edited) - log Z(base): one exponential over the vocabulary fewer than by
    # log-probabilities of both. A suppressed token's difference is infinity minus infinity, its probability 0.
    difference = torch.where(torch.isneginf(base), 0.0, base - edited)
    expected: Tensor = torch.linalg.vecdot(probabilities, difference)
    # Rounding can leave a sum of nothing slightly below zero.
    return (expected + edited.logsumexp(-1) - normalizer.squeeze(-1)).clamp_min(0)


def most_likely(logits: Tensor) -> Tensor:
    """The most likely token of every position, the first of several: [..., V] to [...].

    Not by argmax, which takes four times as long in bfloat16 on CPUs (benchmarks/README.md).
    """
    return logits.max(-1).indices


def agree(first: Tensor, second: Tensor) -> bool:
    """Whether the logits [..., V] of two kinds of passes differ by rounding only."""
    limit = 1e-4 if first.dtype in (torch.float32, torch.float64) else 0.02
    return bool((kl_divergence(first, second).mean() < limit).item())
