"""Removal of the refusal direction while the demo model is still in training.

A model this small tends to decide to refuse in many places at once. Letting part of its training happen with the
current refusal direction taken out, at the strengths a search would try, keeps the decision on that one direction,
which is what larger models do by themselves and what the demo is there to show.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class Removal:
    """For every layer, the unit direction and the strengths in its two residual writers."""

    directions: Tensor
    attention: tuple[float, ...]
    mlp: tuple[float, ...]


@dataclass(frozen=True)
class PaddedPrompts:
    """Prompts padded on the right, where causal attention needs no mask."""

    tokens: Tensor
    last: Tensor


@torch.no_grad()
def mean_difference_directions(model: LlamaForCausalLM, target: PaddedPrompts, baseline: PaddedPrompts) -> Tensor:
    """Per layer, the unit mean difference at the last prompt token, projected against the baseline mean."""

    def means(prompts: PaddedPrompts) -> Tensor:
        states = model.model(input_ids=prompts.tokens, output_hidden_states=True, use_cache=False).hidden_states
        rows = torch.arange(len(prompts.last))
        return torch.stack([state[rows, prompts.last].mean(dim=0) for state in states])

    target_mean, baseline_mean = means(target), means(baseline)
    along = torch.nn.functional.normalize(baseline_mean, dim=-1)
    difference = target_mean - baseline_mean
    difference = difference - (difference * along).sum(dim=-1, keepdim=True) * along
    return torch.nn.functional.normalize(difference, dim=-1)


def random_strengths(generator: random.Random, layers: int) -> tuple[float, ...]:
    """Strengths that fall linearly from a peak, as in the edits that a search proposes."""
    peak, position = generator.uniform(0.8, 1.4), generator.uniform(0.4, 1.0)
    floor, width = peak * generator.uniform(0.0, 1.0), generator.uniform(0.4, 1.0)
    distances = (abs(layer / (layers - 1) - position) for layer in range(layers))
    return tuple(0.0 if away > width else peak + (floor - peak) * away / width for away in distances)


def random_removal(generator: random.Random, directions: Tensor) -> Removal:
    """Draw a removal, either of one layer's direction everywhere or of every layer's own."""
    layers = directions.shape[0] - 1
    chosen = directions[1:]
    if generator.random() < 0.5:
        chosen = directions[round(generator.uniform(0.4, 0.9) * layers)].expand(layers, -1)
    return Removal(chosen, random_strengths(generator, layers), random_strengths(generator, layers))


def _projection_hook(direction: Tensor, strength: float) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output - strength * (output @ direction).unsqueeze(-1) * direction

    return hook


@contextmanager
def removed(model: LlamaForCausalLM, removal: Removal) -> Iterator[None]:
    """Write to the residual stream without the direction while the context lasts."""
    handles = []
    for index, layer in enumerate(model.model.layers):
        direction = removal.directions[index]
        attention_hook = _projection_hook(direction, removal.attention[index])
        handles.append(layer.self_attn.o_proj.register_forward_hook(attention_hook))
        handles.append(layer.mlp.down_proj.register_forward_hook(_projection_hook(direction, removal.mlp[index])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
