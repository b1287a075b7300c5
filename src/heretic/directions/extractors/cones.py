"""Concept cones: a behaviour shown for different reasons has several directions (Wollschlaeger et al., 2502.17420)."""

import torch
from torch import Tensor

from heretic.directions.extractor import ExtractorOptions, extractor
from heretic.directions.extractors.pca import eigenvalue_weights
from heretic.directions.orthogonal import orthonormal_rows
from heretic.directions.samples import (
    SEED,
    provenance,
    rows_by_position,
    separation,
    span,
    top_contrast,
    without_convergence_warnings,
)
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.observability.events import Warned, emit

MINIMUM_SILHOUETTE = 0.1
"""Clusters below it are slices of one cloud."""
_RESTARTS = 10


@extractor("cones", needs_residuals=True)
def cones(target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions) -> DirectionSet:
    """Cluster the target prompts, and span the subspace of all clusters' contrastive principal directions.

    Prompts are clustered once, by the direction in which they lie from the baseline's mean at the position where the
    mean difference separates the classes best, so that a cone means the same prompts in every layer. Every cone has
    `directions_per_cone` directions, found as `pca` finds them. The first ones of all cones, larger cones first, then
    the second ones, and so on, are made orthonormal in this order; a direction's weight is its cone's size relative to
    the largest cone times its eigenvalue weight. The quality is how far apart the classes lie along the first
    direction, in standard deviations.
    """
    labels = cluster(target, baseline, options)
    positions = [
        _cone_directions(target_rows, baseline_rows, labels, options)
        for target_rows, baseline_rows in zip(rows_by_position(target), rows_by_position(baseline), strict=True)
    ]
    vectors = orthonormal_rows(torch.stack([vectors for vectors, _weights in positions]))
    quality = [
        separation(target_rows @ position_vectors[0, :, None], baseline_rows @ position_vectors[0, :, None])
        for target_rows, baseline_rows, position_vectors in zip(
            rows_by_position(target), rows_by_position(baseline), vectors, strict=True
        )
    ]
    directions = DirectionSet(
        vectors=vectors.float(),
        weights=torch.stack([weights for _vectors, weights in positions]).float(),
        quality=torch.cat(quality).float(),
        method="cones",
        provenance=provenance(target, baseline, cone_sizes=labels.bincount().tolist()),
    )
    return directions.to(target.mean.device)


def cluster(target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions) -> Tensor:
    """Which cone each target prompt belongs to, [n]; 0 is the largest.

    The largest number of clusters up to `n_concept_cones` is used for which k-means finds none smaller than
    `min_cone_size` and a silhouette of at least 0.1; Warned says where these are fewer than asked for.
    """
    rows = _unit_differences(target, baseline)
    best = None
    for count in range(min(options.n_concept_cones, len(rows) // options.min_cone_size), 1, -1):
        labels, silhouette = _k_means(rows, count)
        if int(labels.bincount(minlength=count).min()) < options.min_cone_size:
            continue
        best = silhouette if best is None else max(best, silhouette)
        if silhouette >= MINIMUM_SILHOUETTE:
            _report(count, options, len(rows), silhouette)
            return labels.bincount().argsort(descending=True, stable=True).argsort()[labels]
    _report(1, options, len(rows), best)
    return torch.zeros(len(rows), dtype=torch.long)


def _report(count: int, options: ExtractorOptions, prompts: int, silhouette: float | None) -> None:
    """Say where cones were not found as asked for."""
    if count == options.n_concept_cones:
        return
    shortfall = (
        f"The {prompts} bad_prompts do not form {options.n_concept_cones} concept cones of at least "
        f"{options.min_cone_size}"
    )
    if count > 1:
        emit(Warned(f"{shortfall}; {count} are used (silhouette {silhouette:.2f})."))
        return
    reason = "" if silhouette is None else f" (best silhouette {silhouette:.2f}, needed {MINIMUM_SILHOUETTE})"
    emit(
        Warned(
            f"{shortfall}, nor fewer{reason}; one cone is used: give more bad_prompts, or a smaller --min-cone-size."
        )
    )


def _unit_differences(target: ResidualStatistics, baseline: ResidualStatistics) -> Tensor:
    """Target residuals less the baseline's mean, of length 1, where the classes lie furthest apart: [n, r] in a basis.

    A basis of their span keeps every distance, and has fewer coordinates than the model dimensions.
    """
    best, chosen = -1.0, torch.zeros(target.count, 1, dtype=torch.float64)
    pairs = zip(rows_by_position(target), rows_by_position(baseline), strict=True)
    for position, (target_rows, baseline_rows) in enumerate(pairs):
        middle: Tensor = baseline_rows.mean(0)
        difference = (target_rows.mean(0) - middle)[:, None]
        gap = float(separation(target_rows @ difference, baseline_rows @ difference))
        # Position 0 is no layer's output.
        if position and gap > best:
            best, chosen = gap, target_rows - middle
    unit = chosen / chosen.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    _squared, axes = span(unit)
    coordinates: Tensor = unit @ axes.mT
    return coordinates


def _k_means(rows: Tensor, count: int) -> tuple[Tensor, float]:
    """Labels [n] and their silhouette; prompts that coincide may leave fewer clusters than asked for."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    if not rows.shape[-1]:
        return torch.zeros(len(rows), dtype=torch.long), 0.0
    points = rows.numpy()
    with without_convergence_warnings():
        labels = KMeans(count, n_init=_RESTARTS, random_state=SEED).fit_predict(points)
    silhouette = silhouette_score(points, labels) if 1 < len(set(labels.tolist())) < len(rows) else 0.0
    return torch.from_numpy(labels).long(), float(silhouette)


def _cone_directions(
    target: Tensor, baseline: Tensor, labels: Tensor, options: ExtractorOptions
) -> tuple[Tensor, Tensor]:
    """Directions [k, D] and weights [k] of all cones at one position, in the order of `cones`.

    Args:
        target: [n, D] fp64.
        baseline: [m, D] fp64.
        labels: [n].
        options: Of the extractor.
    """
    middle = baseline.mean(0)
    _squared, axes = span(torch.cat([target, baseline]) - middle)
    target_rows, baseline_rows = (target - middle) @ axes.mT, (baseline - middle) @ axes.mT
    sizes = labels.bincount()
    vectors, weights = [], []
    for cone, size in enumerate(sizes.tolist()):
        members = target_rows[labels == cone]
        values, cone_axes = top_contrast(members, baseline_rows, options.pca_alpha, options.directions_per_cone)
        signs = torch.where(cone_axes @ members.mean(0) < 0, -1.0, 1.0)
        eigenvalue_shares = torch.ones_like(values)
        if options.use_eigenvalue_weights:
            eigenvalue_shares = eigenvalue_weights(
                values, options.eigenvalue_weight_method, options.eigenvalue_weight_temperature
            )
        vectors.append(cone_axes * signs[:, None] @ axes)
        weights.append(eigenvalue_shares * size / int(sizes.max()))
    # First directions of all cones before the second ones of any; there are at most D that are independent.
    most = target.shape[-1]
    return torch.stack(vectors, dim=1).flatten(0, 1)[:most], torch.stack(weights, dim=1).flatten()[:most]
