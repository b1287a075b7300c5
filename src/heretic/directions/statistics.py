"""Streaming moments of residuals: one pass, constant memory, mergeable across batches and processes."""

import torch
from torch import Tensor

from heretic.directions.types import ResidualStatistics
from heretic.errors import ModelError


class ResidualMoments:
    """Accumulates sums of residuals in fp32 on their own device; `finish` gives the frozen statistics."""

    def __init__(self, with_second_moment: bool = False) -> None:
        self._with_second_moment = with_second_moment
        self._count = 0
        self._sum: Tensor | None = None
        self._outer_sum: Tensor | None = None

    def update(self, residuals: Tensor) -> None:
        """Add a batch.

        Args:
            residuals: [B, L+1, D], any floating dtype.
        """
        residuals = residuals.float()
        total = residuals.sum(0)
        self._sum = total if self._sum is None else self._sum + total
        if self._with_second_moment:
            by_layer = residuals.transpose(0, 1)
            outer = by_layer.mT @ by_layer
            self._outer_sum = outer if self._outer_sum is None else self._outer_sum.add_(outer)
        self._count += len(residuals)

    def finish(self, fingerprint: str) -> ResidualStatistics:
        """The statistics of everything added so far.

        Raises:
            ModelError: No prompt was added, or a residual was not finite.
        """
        if self._sum is None:
            raise ModelError("No residuals were collected; give at least one prompt.")
        if not bool(torch.isfinite(self._sum).all()):
            layer = int((~torch.isfinite(self._sum)).any(-1).nonzero()[0])
            raise ModelError(
                f"The residual stream is not finite from position {layer} on; try another dtype, e.g. --dtypes float32."
            )
        second_moment = None if self._outer_sum is None else self._outer_sum / self._count
        return ResidualStatistics(self._sum / self._count, self._count, second_moment, fingerprint)


def merged(first: ResidualStatistics, second: ResidualStatistics) -> ResidualStatistics:
    """Statistics of the union of two disjoint prompt sets.

    The second moment survives only where both have one; the fingerprints are joined.
    """
    count = first.count + second.count
    share = second.count / count
    second_moment = None
    if first.second_moment is not None and second.second_moment is not None:
        second_moment = torch.lerp(first.second_moment, second.second_moment, share)
    fingerprint = f"{first.fingerprint}+{second.fingerprint}"
    return ResidualStatistics(torch.lerp(first.mean, second.mean, share), count, second_moment, fingerprint)


def covariance(statistics: ResidualStatistics) -> Tensor:
    """[L+1, D, D], the centred second moment.

    Raises:
        ValueError: The statistics were collected without a second moment.
    """
    if statistics.second_moment is None:
        raise ValueError("these statistics hold no second moment")
    return statistics.second_moment - statistics.mean[:, :, None] * statistics.mean[:, None, :]
