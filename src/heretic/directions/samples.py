"""What methods share that look at single prompts: far fewer rows than dimensions, so everything is done in their span.

Pure functions of tensors in fp64 on the CPU, where the residuals of single prompts are kept.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from heretic.directions.statistics import required_residuals
from heretic.directions.types import ResidualStatistics

_NEGLIGIBLE = 1e-12
"""Squared singular values below this share of the largest are rounding."""

SEED = 0
"""Of folds and clusters: a constant, so that the directions depend on the prompts and the options alone."""


def rows_by_position(statistics: ResidualStatistics) -> Iterator[Tensor]:
    """Residuals [n, D] fp64 of one position after the other: all at once in fp64 would double the memory."""
    return (position.double() for position in required_residuals(statistics).cpu().unbind(1))


def span(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values and right singular vectors, by the smaller Gram matrix.

    Args:
        rows: [n, D] fp64, centred as the caller wants.

    Returns:
        Squared singular values [r], ascending and greater than 0, and orthonormal axes [r, D]; r is the rank.
    """
    count, size = rows.shape
    if count <= size:
        values, vectors = torch.linalg.eigh(rows @ rows.mT)
        keeps = values > values[-1].clamp_min(0) * _NEGLIGIBLE
        values = values[keeps]
        return values, (vectors[:, keeps].mT @ rows) / values.sqrt()[:, None]
    values, vectors = torch.linalg.eigh(rows.mT @ rows)
    keeps = values > values[-1].clamp_min(0) * _NEGLIGIBLE
    return values[keeps], vectors[:, keeps].mT


def top_contrast(target: Tensor, baseline: Tensor, alpha: float, k: int) -> tuple[Tensor, Tensor]:
    """Top eigenvectors of E_target[x x^T] - alpha * E_baseline[x x^T], as contrastive PCA takes them.

    Args:
        target: [n, r] fp64; what it is centred on is the caller's choice.
        baseline: [m, r] fp64.
        alpha: How much of the baseline's variation is discounted.
        k: How many.

    Returns:
        Eigenvalues [k], descending, and unit vectors [k, r]; zeros where r is less than k.
    """
    contrast = target.mT @ target / len(target) - alpha * (baseline.mT @ baseline / len(baseline))
    rank = min(k, contrast.shape[-1])
    eigenvalues = contrast.new_zeros(k)
    vectors = contrast.new_zeros(k, contrast.shape[-1])
    if rank:
        values, axes = torch.linalg.eigh(contrast)
        eigenvalues[:rank] = values[-rank:].flip(-1)
        vectors[:rank] = axes[:, -rank:].flip(-1).mT
    return eigenvalues, vectors


def separation(target: Tensor, baseline: Tensor) -> Tensor:
    """How far apart two classes lie along directions, in pooled standard deviations (d').

    Args:
        target: Projections [n, c].
        baseline: Projections [m, c].

    Returns:
        [c]; 0 where nothing varies.
    """
    count = len(target) + len(baseline)
    variance = (target - target.mean(0)).square().sum(0) + (baseline - baseline.mean(0)).square().sum(0)
    deviation = (variance / count).sqrt()
    distance = target.mean(0) - baseline.mean(0)
    return torch.where(deviation > 0, distance / torch.where(deviation > 0, deviation, 1.0), 0.0)


def provenance(target: ResidualStatistics, baseline: ResidualStatistics, **facts: Any) -> dict[str, Any]:
    """The prompts that directions were found with, and whatever else is worth keeping."""
    return {
        "target_prompts": target.count,
        "target_fingerprint": target.fingerprint,
        "baseline_prompts": baseline.count,
        "baseline_fingerprint": baseline.fingerprint,
        **facts,
    }


@contextmanager
def without_convergence_warnings() -> Iterator[None]:
    """Keep scikit-learn's remarks off the terminal: whether a fit is any good is measured on held-out prompts."""
    # Imported here, as everywhere: it takes a second, and most runs need none of it.
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
