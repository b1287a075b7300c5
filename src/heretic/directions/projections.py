"""Where single prompts lie along a behaviour's directions: small enough to be kept beside them, without the residuals.

A direction file holds them so that its quality can be judged and plotted without the model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heretic.directions.types import DirectionSet


@dataclass(frozen=True, slots=True)
class Projections:
    """Lengths of the training prompts' residuals along the first direction of every residual position.

    As the edit reads them: by the read side where a set has one.

    Attributes:
        target: [n, L+1] fp32, prompts that show the behaviour, in no particular order.
        baseline: [m, L+1] fp32, prompts without it.
    """

    target: Tensor
    baseline: Tensor


def projected_lengths(batches: Iterable[Tensor], directions: DirectionSet) -> Tensor:
    """Lengths of residuals along the first direction of each position.

    Args:
        batches: Residuals [B, L+1, D], any floating dtype.
        directions: Vectors, and reads where there are any, [L+1, k, D].

    Returns:
        [n, L+1] fp32 in host memory. Not fp16: in deep layers of some models residuals are longer than it can hold.
    """
    first = (directions.vectors if directions.reads is None else directions.reads)[:, 0].float()
    return torch.cat([torch.einsum("bld,ld->bl", batch.float(), first.to(batch.device)).cpu() for batch in batches])


def pooled_deviation(projections: Projections) -> Tensor:
    """[L+1] fp64, root mean square of both classes' standard deviations; 0 where no prompt differs from another."""
    variances = [values.double().var(dim=0, unbiased=False) for values in (projections.target, projections.baseline)]
    return torch.stack(variances).mean(0).sqrt()


def separation(projections: Projections) -> Tensor:
    """How far the classes lie apart, in standard deviations within a class (d', Green and Swets, 1966).

    Returns:
        [L+1] fp64, positive where the target lies in the direction's sense; NaN where nothing varies.
    """
    between = projections.target.double().mean(0) - projections.baseline.double().mean(0)
    within = pooled_deviation(projections)
    return torch.where(within > 0, between / within.clamp_min(torch.finfo(within.dtype).tiny), torch.nan)


def halves_apart(halves: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """How far two classes lie apart along directions that other prompts gave, and how alike these directions are.

    Args:
        halves: Residuals [n, L+1, D] and [m, L+1, D] of target and baseline prompts, of two halves of the prompts.

    Returns:
        [L+1] fp64: separation along the difference of means of the other half, its mean over both halves, NaN where
        nothing varies; and the cosine of both differences.
    """
    differences = [target.double().mean(0) - baseline.double().mean(0) for target, baseline in halves]
    apart = [
        separation(Projections(*((side.double() * direction).sum(-1) for side in half)))
        for half, direction in zip(halves, reversed(differences), strict=True)
    ]
    return torch.stack(apart).mean(0), torch.cosine_similarity(differences[0], differences[1], dim=-1)


def standardized(projections: Projections) -> Projections:
    """The same in standard deviations within a class, from halfway between both means; NaN where nothing varies."""
    middle = (projections.target.double().mean(0) + projections.baseline.double().mean(0)) / 2
    within = pooled_deviation(projections)
    scale = torch.where(within > 0, within.clamp_min(torch.finfo(within.dtype).tiny).reciprocal(), torch.nan)
    return Projections((projections.target.double() - middle) * scale, (projections.baseline.double() - middle) * scale)
