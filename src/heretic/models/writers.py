"""Turns one stored weight of a decoder layer into a ResidualWriter, or into the reason why it cannot be edited."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from heretic.edits.writer import Orientation, ResidualWriter, UneditableWriter, WriterKind
from heretic.models.declarations import Verdict, post_norms
from heretic.models.storage import (
    StoredWeight,
    direct_parameters,
    fused_orientation,
    linear_sizes,
    reason_against_editing,
)

GAIN_TOLERANCE = 0.05
"""Largest mean deviation of the measured gain from the stated one; bfloat16 keeps three digits."""
SharedWeights: TypeAlias = Mapping[int, frozenset[str]]
"""Identity of a weight to the layers (or other tensors of the model) that use it, where there are several."""


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One decoder layer: its index, its path from the model's root, the module, and D."""

    index: int
    path: str
    module: nn.Module
    hidden_size: int


def describe(
    layer: DecoderLayer, weight: StoredWeight, verdict: Verdict, shared: SharedWeights
) -> ResidualWriter | UneditableWriter:
    """Describe a weight that writes the residual stream, or may write it."""
    norms = post_norms(layer.module, verdict.component, weight.name)
    offsets = [norm_offset(layer.module.get_submodule(norm)) for norm in norms]
    reason = (
        _undeclared(weight, verdict)
        or reason_against_editing(weight, layer.hidden_size)
        or _sharing(layer, weight, shared)
        or _unknown_gain(norms, offsets)
    )
    axes = _axes(weight, layer.hidden_size)
    if reason is not None or axes is None or weight.kind is None:
        return UneditableWriter(
            layer.index, verdict.component, f"{layer.path}.{weight.name}", reason or "its axes are unknown"
        )
    bias = f"{weight.parameter}_bias" if weight.kind is WriterKind.FUSED_EXPERTS else "bias"
    return ResidualWriter(
        layer=layer.index,
        component=verdict.component,
        path=f"{layer.path}.{weight.module_path}",
        parameter=weight.parameter,
        kind=weight.kind,
        orientation=axes.orientation,
        output_size=layer.hidden_size,
        input_size=axes.input_size,
        expert_count=axes.expert_count,
        bias=bias if bias in direct_parameters(weight.module) else None,
        post_norm=f"{layer.path}.{norms[0]}" if norms else None,
        post_norm_offset=offsets[0] or 0.0 if norms else 0.0,
        outer_post_norm=f"{layer.path}.{norms[1]}" if len(norms) > 1 else None,
    )


@dataclass(frozen=True, slots=True)
class _Axes:
    orientation: Orientation
    input_size: int
    expert_count: int = 1


def _axes(weight: StoredWeight, hidden_size: int) -> _Axes | None:
    if weight.kind is WriterKind.FUSED_EXPERTS:
        tensor, orientation = weight.tensor, fused_orientation(weight, hidden_size)
        if tensor is None or orientation is None:
            return None
        return _Axes(orientation, tensor.shape[-1 if orientation is Orientation.OUT_IN else -2], tensor.shape[0])
    sizes = linear_sizes(weight.module)
    if sizes is None:
        return None
    # The modules' own sizes, not the tensor's: packed weights have other shapes.
    return _Axes(Orientation.IN_OUT if weight.kind is WriterKind.CONV1D else Orientation.OUT_IN, sizes[1])


def _undeclared(weight: StoredWeight, verdict: Verdict) -> str | None:
    if verdict.declared:
        return None
    return (
        f"it is not declared as a writer, nor as an inner weight ({type(weight.module).__name__}, output size "
        "equal to the hidden size); declare it in heretic/models/families.py"
    )


def _sharing(layer: DecoderLayer, weight: StoredWeight, shared: SharedWeights) -> str | None:
    others = sorted(shared.get(id(weight.tensor), frozenset()) - {layer.path})
    if not others:
        return None
    return f"its weight is shared with {', '.join(others)}, so that an edit here would change that too"


def _unknown_gain(norms: tuple[str, ...], offsets: list[float | None]) -> str | None:
    if None in offsets or len(set(offsets)) > 1:
        return f"between it and the residual stream stands what no gain per dimension describes ({', '.join(norms)})"
    return None


def norm_offset(norm: nn.Module) -> float | None:
    """What an RMSNorm adds to its stored weight to get its gain: measured on the module, not guessed from its name.

    1.0 where the gain is 1 + weight (Gemma), 0.0 where it is the weight, None where it is neither.

    The probe is a vector of ones with alternating signs: its mean is zero and its root mean square is one, so a norm
    returns the gain itself, with those signs. A norm without a weight has gain one, which counts as offset 0.
    """
    weight = direct_parameters(norm).get("weight")
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
    return best if errors[best] <= GAIN_TOLERANCE * scale else None
