"""Contrastive PCA: where the target's residuals vary and the baseline's do not (Abid et al., 2018)."""

import torch
from torch import Tensor

from heretic.directions.extractor import ExtractorOptions, extractor
from heretic.directions.statistics import covariance
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.errors import ConfigurationError


def eigenvalue_weights(eigenvalues: Tensor, method: str, temperature: float = 1.0) -> Tensor:
    """Relative strengths of several directions, the strongest 1.

    Args:
        eigenvalues: [..., k], descending; negative ones count as 0.
        method: ``softmax`` of the eigenvalues as shares of the largest, ``proportional``, or ``log`` (of 1 + value).
        temperature: Of ``softmax``, greater than 0.

    Returns:
        [..., k] in (0, 1].

    Raises:
        ConfigurationError: Unknown method.
    """
    tiny = torch.finfo(eigenvalues.dtype).tiny
    positive = eigenvalues.clamp_min(0)
    shares = positive / positive[..., :1].clamp_min(tiny)
    if method == "softmax":
        return torch.exp((shares - shares[..., :1]) / temperature)
    if method == "proportional":
        return shares
    if method == "log":
        logarithms = torch.log1p(positive)
        return logarithms / logarithms[..., :1].clamp_min(tiny)
    raise ConfigurationError(f"Unknown eigenvalue weight method {method}; use softmax, proportional or log.")


@extractor("pca", needs_second_moment=True)
def pca(target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions) -> DirectionSet:
    """Top eigenvectors of E_t[(x - mu_b)(x - mu_b)^T] - alpha * covariance of the baseline.

    The target is centred on the baseline's mean, so that the mean difference itself is part of what varies. Signs point
    from baseline to target. The quality is the largest eigenvalue relative to the baseline's mean variance.
    """
    baseline_covariance = covariance(baseline)
    shift = target.mean - baseline.mean
    about_baseline = covariance(target) + shift[:, :, None] * shift[:, None, :]
    contrast = about_baseline - options.pca_alpha * baseline_covariance
    eigenvalues, eigenvectors = torch.linalg.eigh((contrast + contrast.mT) / 2)
    k = min(options.n_directions, eigenvalues.shape[-1])
    eigenvalues = eigenvalues[:, -k:].flip(-1)
    vectors = eigenvectors[:, :, -k:].flip(-1).mT.contiguous()
    towards_target = (vectors @ shift[:, :, None]).squeeze(-1)
    vectors = vectors * torch.where(towards_target < 0, -1.0, 1.0)[..., None]
    weights = torch.ones_like(eigenvalues)
    if options.use_eigenvalue_weights:
        weights = eigenvalue_weights(
            eigenvalues, options.eigenvalue_weight_method, options.eigenvalue_weight_temperature
        )
    variance = baseline_covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    return DirectionSet(
        vectors=vectors,
        weights=weights,
        quality=(eigenvalues[:, 0] / variance.clamp_min(torch.finfo(variance.dtype).tiny)).cpu(),
        method="pca",
        provenance={
            "target_prompts": target.count,
            "target_fingerprint": target.fingerprint,
            "baseline_prompts": baseline.count,
            "baseline_fingerprint": baseline.fingerprint,
            "alpha": options.pca_alpha,
        },
    )
