"""`use_activation_calibration`: strengths follow how strongly each layer speaks along its direction."""

import torch
from torch import Tensor

from heretic.config.sections import ActivationOptions
from heretic.directions.types import DirectionSet
from heretic.passes.calibration import backing_off
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import PromptSet


def projection_lengths(residuals: Tensor, vectors: Tensor) -> Tensor:
    """How long the part of each residual is that lies in the span of its layer's directions.

    Args:
        residuals: [B, L+1, D].
        vectors: [L+1, k, D], orthonormal over k.

    Returns:
        [B, L], one value a layer's output (position 0, the embeddings, is left out); |v^T h| for one direction.
    """
    parts = torch.einsum("bld,lkd->blk", residuals[:, 1:].to(vectors), vectors[1:])
    lengths: Tensor = torch.linalg.vector_norm(parts, dim=-1)
    return lengths


def activation_factors(lengths: Tensor, percentile: float, minimum: float, maximum: float) -> tuple[float, ...]:
    """The percentile of each layer's activation relative to the mean of these over all layers, clamped.

    factor_l = clamp(q_l / mean of q over layers, minimum, maximum), q_l the percentile over prompts of |v_l^T h_l|.

    Args:
        lengths: [N, L], see `projection_lengths`.
        percentile: 0 to 1.
        minimum: Of a factor.
        maximum: Of a factor.

    Returns:
        [L] factors; all 1 (clamped) where no layer has any activation.
    """
    quantiles = torch.quantile(lengths.double(), percentile, dim=0)
    mean = quantiles.mean()
    relative = quantiles / mean if mean > 0 else torch.ones_like(quantiles)
    factors: list[float] = relative.clamp(minimum, maximum).tolist()
    return tuple(factors)


def calibrated_factors(
    options: ActivationOptions, runner: ModelRunner, target: PromptSet, directions: DirectionSet
) -> tuple[float, ...]:
    """By layer what its strength is multiplied by, see `activation_factors`.

    Args:
        options: Percentile and bounds.
        runner: The original model.
        target: Training prompts that show the behaviour.
        directions: What is removed.
    """

    def collect(fitting: ModelRunner) -> Tensor:
        batches = [
            projection_lengths(residuals, directions.vectors.to(residuals.device)).cpu()
            for residuals in fitting.residuals(target.prompts)
        ]
        return torch.cat(batches)

    lengths, _runner = backing_off(runner, collect, "measuring activations")
    return activation_factors(
        lengths, options.activation_percentile, options.activation_factor_min, options.activation_factor_max
    )


def factors_note(factors: tuple[float, ...]) -> str:
    """The factors in a sentence."""
    low, high = min(range(len(factors)), key=factors.__getitem__), max(range(len(factors)), key=factors.__getitem__)
    return (
        "Strengths were multiplied, layer by layer, by how strongly the layer is active along its direction: by "
        f"{factors[low]:.2f} (layer {low}) to {factors[high]:.2f} (layer {high})."
    )
