"""Residuals with known directions planted in them."""

from collections.abc import Callable

import torch
from torch import Tensor

from heretic.directions.statistics import ResidualMoments
from heretic.directions.transform import TransformContext
from heretic.directions.types import ResidualStatistics

POSITIONS = 4


def unit(*shape: int, seed: int) -> Tensor:
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=-1, keepdim=True)


def statistics_of(residuals: Tensor) -> ResidualStatistics:
    moments = ResidualMoments(with_second_moment=True, with_residuals=True)
    for batch in residuals.split(50):
        moments.update(batch)
    return moments.finish(f"{len(residuals)} prompts")


def planted_classes(count: int, size: int, strength: float = 3.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two classes [count, POSITIONS, size], the direction that tells them apart, and a loud one they share.

    At position 0 all residuals are equal, as the embeddings of the last token of a template are.
    """
    generator = torch.Generator().manual_seed(3)
    direction = unit(POSITIONS, size, seed=1)
    shared = unit(POSITIONS, size, seed=2)
    # Somewhat along the direction, so that the mean difference reads the noise as well.
    shared = shared - (shared * direction).sum(-1, keepdim=True) * direction
    shared = shared / shared.norm(dim=-1, keepdim=True) + 0.5 * direction

    def noise() -> Tensor:
        loud = torch.randn(count, POSITIONS, 1, generator=generator) * 4
        return torch.randn(count, POSITIONS, size, generator=generator) * 0.3 + loud * shared + 1.0

    target, baseline = noise() + strength * direction, noise()
    target[:, 0] = baseline[:, 0] = 1.0
    return target, baseline, direction, shared


def context_of(
    target: ResidualStatistics, baseline: ResidualStatistics, others: Callable[[str], ResidualStatistics] | None = None
) -> TransformContext:
    def nothing_else(role: str) -> ResidualStatistics:
        raise AssertionError(role)

    return TransformContext(target, baseline, others or nothing_else)
