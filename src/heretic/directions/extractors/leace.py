"""Least-squares concept erasure: the read side that finds the behaviour with the least else (arXiv 2306.03819)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from heretic.directions.extractor import ExtractorOptions, extractor
from heretic.directions.extractors.mean import mean
from heretic.directions.orthogonal import scaled_reads
from heretic.directions.samples import SEED, provenance, rows_by_position, separation, span
from heretic.directions.types import DirectionSet, ResidualStatistics

MINIMUM_PROMPTS = 10
FOLDS = 3
CANDIDATES = tuple(10 ** (exponent / 2) for exponent in range(-4, 9))
"""Regularisations that cross-validation chooses from: nearly the plain inverse to nearly the mean difference."""


@extractor("leace", needs_residuals=True, minimum_prompts=MINIMUM_PROMPTS)
def leace(target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions) -> DirectionSet:
    """Read with (S + tau I)^-1 delta, write delta, the difference of means; always one direction.

    S is the covariance within the classes. (The covariance of both classes together gives the same direction, since it
    differs by a multiple of delta delta^T.) tau is `leace_regularization` times the mean variance; adding it is
    shrinkage towards a multiple of the identity, up to a factor that the read side's scale cancels. The larger it is,
    the nearer is the read side to delta, that is to ``mean``.

    Where no regularisation is given, every position gets the one of `CANDIDATES` whose read side separates held-out
    prompts best: of all read sides that see delta alike, the one that sees least of anything else. The quality is that
    separation, in standard deviations.
    """
    given = options.leace_regularization
    candidates = torch.tensor(CANDIDATES if given is None else [given], dtype=torch.float64)
    reads, chosen, quality = [], [], []
    for target_rows, baseline_rows in zip(rows_by_position(target), rows_by_position(baseline), strict=True):
        scores = held_out_separation(target_rows, baseline_rows, candidates)
        best = int(scores.argmax())
        reads.append(read_sides(target_rows, baseline_rows, candidates[best : best + 1])[0])
        chosen.append(float(candidates[best]))
        quality.append(float(scores[best]))
    differences = mean(target, baseline, options).to(torch.device("cpu"))
    directions = DirectionSet(
        vectors=differences.vectors,
        weights=differences.weights,
        quality=torch.tensor(quality),
        method="leace",
        provenance=provenance(target, baseline, regularization=chosen),
        reads=scaled_reads(torch.stack(reads)[:, None], differences.vectors),
    )
    return directions.to(target.mean.device)


def read_sides(target: Tensor, baseline: Tensor, candidates: Tensor) -> Tensor:
    """(S + tau I)^-1 delta at one position, without forming S.

    Args:
        target: [n, D] fp64.
        baseline: [m, D] fp64.
        candidates: Regularisations [c], relative to the mean variance.

    Returns:
        [c, D], each divided by the inverse of its tau, which keeps lengths moderate; delta where nothing varies.
    """
    target_mean, baseline_mean = target.mean(0), baseline.mean(0)
    delta = target_mean - baseline_mean
    within = torch.cat([target - target_mean, baseline - baseline_mean])
    squared, axes = span(within)
    variances = squared / len(within)
    mean_variance = variances.sum() / within.shape[-1]
    # In the span of the samples 1 / (variance + tau), outside of it 1 / tau; times tau.
    tau = (candidates * mean_variance)[:, None]
    inside = tau / (variances + tau) - 1.0
    return delta + (inside * (axes @ delta)) @ axes


def held_out_separation(target: Tensor, baseline: Tensor, candidates: Tensor) -> Tensor:
    """How far apart the classes are on held-out prompts, read with each candidate, mean over the folds.

    Args:
        target: [n, D] fp64.
        baseline: [m, D] fp64.
        candidates: [c].

    Returns:
        [c], in standard deviations.
    """
    total = torch.zeros_like(candidates)
    for (target_in, target_out), (baseline_in, baseline_out) in zip(_folds(target), _folds(baseline), strict=True):
        reads = read_sides(target_in, baseline_in, candidates)
        total += separation(target_out @ reads.mT, baseline_out @ reads.mT)
    return total / FOLDS


def _folds(rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Training and held-out rows; every row is held out once."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))
    for part in range(FOLDS):
        held_out = order % FOLDS == part
        yield rows[~held_out], rows[held_out]
