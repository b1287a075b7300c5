"""Difference of means: the direction that writes a behaviour (Arditi et al., arXiv 2406.11717)."""

import torch

from heretic.directions.extractor import ExtractorOptions, extractor
from heretic.directions.samples import provenance
from heretic.directions.types import DirectionSet, ResidualStatistics


@extractor("mean")
def mean(target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions) -> DirectionSet:
    """Subtract the means of both classes at every residual position; always one direction.

    The quality is the difference's norm relative to the mean norm of both classes.
    """
    difference = target.mean - baseline.mean
    norm = difference.norm(dim=-1)
    scale = (target.mean.norm(dim=-1) + baseline.mean.norm(dim=-1)) / 2
    vectors = difference / norm.clamp_min(torch.finfo(norm.dtype).tiny)[:, None]
    return DirectionSet(
        vectors=vectors[:, None, :],
        weights=torch.ones_like(norm)[:, None],
        quality=(norm / scale.clamp_min(torch.finfo(norm.dtype).tiny)).cpu(),
        method="mean",
        provenance=provenance(target, baseline),
    )
