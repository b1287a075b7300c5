"""Contrastive PCA: where the target's residuals vary and the baseline's do not (Abid et al., 2018)."""

import torch
from torch import Tensor

from heretic.common.errors import ConfigurationError
from heretic.directions.extractor import ExtractorOptions, extractor
from heretic.directions.samples import provenance
from heretic.directions.statistics import required_covariance
from heretic.directions.types import DirectionSet, ResidualStatistics

_WITH_EIGH = ("cpu", "cuda")
"""Device types that certainly decompose symmetric matrices; others hand theirs to the CPU."""


def eigenvalue_weights(eigenvalues: Tensor, method: str, temperature: float = 1.0) -> Tensor:
    """Relative strengths of several directions; the first is always 1.

    Where no eigenvalue is positive the first direction still is the best there is, so it keeps its full strength;
    ``proportional`` and ``log`` leave the others out then, as they do with any direction whose eigenvalue is not
    positive.

    Args:
        eigenvalues: [..., k], descending and finite; negative ones count as 0.
        method: ``softmax`` of the eigenvalues as shares of the largest, ``proportional``, or ``log`` (of 1 + value).
        temperature: Of ``softmax``, greater than 0.

    Returns:
        [..., k] in [0, 1], descending.

    Raises:
        ConfigurationError: Unknown method.
    """
    positive = eigenvalues.clamp_min(0)
    if method == "softmax":
        shares = _shares_of_first(positive)
        return torch.exp((shares - shares[..., :1]) / temperature)
    if method == "proportional":
        return _shares_of_first(positive)
    if method == "log":
        return _shares_of_first(torch.log1p(positive))
    raise ConfigurationError(f"Unknown eigenvalue weight method {method}; use softmax, proportional or log.")


def _shares_of_first(values: Tensor) -> Tensor:
    """Values [..., k], descending from the first and not negative, divided by the first; the first becomes 1."""
    first = values[..., :1]
    shares = values / torch.where(first > 0, first, 1.0)
    return torch.cat([torch.ones_like(first), shares[..., 1:]], dim=-1)


@extractor("pca", needs_second_moment=True, takes_weights=True)
def pca(target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions) -> DirectionSet:
    """Top eigenvectors of E_t[(x - mu_b)(x - mu_b)^T] - alpha * covariance of the baseline.

    The target is centred on the baseline's mean, so that the mean difference itself is part of what varies. Signs point
    from baseline to target. Weights are those given, or follow from the eigenvalues. The quality is the largest
    eigenvalue relative to the baseline's mean variance.
    """
    target_covariance, baseline_covariance = required_covariance(target), required_covariance(baseline)
    shift = target.mean - baseline.mean
    # One position after the other: the matrices and workspaces of all at once take many times the statistics' memory.
    positions = [
        _top_eigenvectors(target_part, baseline_part, shift_part, options.pca_alpha, options.n_directions)
        for target_part, baseline_part, shift_part in zip(target_covariance, baseline_covariance, shift, strict=True)
    ]
    eigenvalues = torch.stack([values for values, _vectors in positions])
    vectors = torch.stack([vectors for _values, vectors in positions])
    towards_target = (vectors @ shift[:, :, None]).squeeze(-1)
    vectors = vectors * torch.where(towards_target < 0, -1.0, 1.0)[..., None]
    weights = torch.ones_like(eigenvalues)
    if options.direction_weights:
        # A model may have fewer dimensions than directions were asked for.
        given = torch.tensor(options.direction_weights[: weights.shape[-1]])
        weights = given.to(weights).expand_as(weights).contiguous()
    elif options.use_eigenvalue_weights:
        weights = eigenvalue_weights(
            eigenvalues, options.eigenvalue_weight_method, options.eigenvalue_weight_temperature
        )
    variance = baseline_covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    return DirectionSet(
        vectors=vectors,
        weights=weights,
        quality=(eigenvalues[:, 0] / variance.clamp_min(torch.finfo(variance.dtype).tiny)).cpu(),
        method="pca",
        provenance=provenance(target, baseline, alpha=options.pca_alpha),
    )


def _top_eigenvectors(target: Tensor, baseline: Tensor, shift: Tensor, alpha: float, k: int) -> tuple[Tensor, Tensor]:
    """Largest eigenvalues [k], descending, and their eigenvectors [k, D] at one position.

    Args:
        target: Covariance [D, D].
        baseline: Covariance [D, D].
        shift: Difference of the means [D].
        alpha: Share of the baseline's covariance that is subtracted.
        k: How many; at most D are returned.
    """
    device = target.device
    contrast = torch.addr(target, shift, shift) - alpha * baseline
    contrast = (contrast + contrast.mT) / 2
    if device.type not in _WITH_EIGH:
        contrast = contrast.cpu()
    eigenvalues, eigenvectors = torch.linalg.eigh(contrast)
    k = min(k, eigenvalues.shape[-1])
    # `flip` copies; a view would keep all eigenvectors of every position.
    return eigenvalues[-k:].flip(-1).to(device), eigenvectors[:, -k:].flip(-1).mT.contiguous().to(device)
