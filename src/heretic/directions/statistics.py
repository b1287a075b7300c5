"""Streaming moments of residuals: one pass, constant memory, mergeable across batches and processes.

Means and centred scatters are merged batch by batch (Chan, Golub and LeVeque, 1983): some residual dimensions of real
models sit at thousands in every prompt and vary by ones, and E[x x^T] - mu mu^T in fp32 would lose that variance.
"""

import torch
from torch import Tensor

from heretic.common.errors import ModelError
from heretic.directions.types import ResidualStatistics

_WITH_FLOAT64 = ("cpu", "cuda")
"""Device types that certainly compute in fp64; MPS and some XPUs refuse it."""


def widest_dtype(device: torch.device) -> torch.dtype:
    """fp64 where the device has it, else fp32."""
    return torch.float64 if device.type in _WITH_FLOAT64 else torch.float32


class ResidualMoments:
    """Accumulates moments of residuals on their own device; `finish` gives the frozen statistics.

    The mean is kept in fp64 where the device has it, the centred scatter [L+1, D, D] in fp32.

    Args:
        with_second_moment: Whether the covariance is kept as well.
        with_residuals: Whether every prompt's residuals are kept as well, in host memory.
    """

    def __init__(self, with_second_moment: bool = False, with_residuals: bool = False) -> None:
        self._with_second_moment = with_second_moment
        self._residuals: list[Tensor] | None = [] if with_residuals else None
        self._count = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def update(self, residuals: Tensor) -> None:
        """Add a batch.

        Args:
            residuals: [B, L+1, D], any floating dtype.
        """
        residuals = residuals.float()
        if self._residuals is not None:
            self._residuals.append(residuals.cpu())
        batch_mean = residuals.mean(0, dtype=widest_dtype(residuals.device))
        added = len(residuals)
        total = self._count + added
        shift = torch.zeros_like(batch_mean) if self._mean is None else batch_mean - self._mean
        if self._with_second_moment:
            # The shift between both means counts like one more row of this length.
            between = shift.float() * (self._count * added / total) ** 0.5
            rows = torch.cat([residuals - batch_mean.float(), between[None]]).transpose(0, 1)
            if self._scatter is None:
                self._scatter = rows.mT @ rows
            else:
                # In place: a product of its own would take as much memory again, gigabytes for a large model.
                self._scatter.baddbmm_(rows.mT, rows)
        self._mean = batch_mean if self._mean is None else self._mean + shift * (added / total)
        self._count = total

    def finish(self, fingerprint: str) -> ResidualStatistics:
        """The statistics of everything added so far.

        Raises:
            ModelError: No prompt was added, or a residual was not finite.
        """
        if self._mean is None:
            raise ModelError("No residuals were collected; give at least one prompt.")
        if not bool(torch.isfinite(self._mean).all()):
            layer = int((~torch.isfinite(self._mean)).any(-1).nonzero()[0])
            raise ModelError(
                f"The residual stream is not finite from position {layer} on; try another dtype, e.g. --dtypes float32."
            )
        covariance = None if self._scatter is None else self._scatter / self._count
        residuals = None if self._residuals is None else torch.cat(self._residuals)
        return ResidualStatistics(self._mean.float(), self._count, covariance, fingerprint, residuals)


def required_covariance(statistics: ResidualStatistics) -> Tensor:
    """[L+1, D, D], the covariance that an extractor asked for.

    Raises:
        ValueError: The statistics were collected without a second moment.
    """
    if statistics.covariance is None:
        raise ValueError("these statistics hold no second moment")
    return statistics.covariance


def required_residuals(statistics: ResidualStatistics) -> Tensor:
    """[n, L+1, D], the residuals of single prompts that an extractor asked for.

    Raises:
        ValueError: The statistics were collected without them.
    """
    if statistics.residuals is None:
        raise ValueError("these statistics hold no residuals of single prompts")
    return statistics.residuals
