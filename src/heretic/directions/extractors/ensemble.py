"""A probe and contrastive PCA together: each is misled by other accidents of the prompts."""

from dataclasses import replace

import torch
from torch import Tensor

from heretic.directions.extractor import ExtractorOptions, extractor
from heretic.directions.extractors.pca import pca
from heretic.directions.extractors.probe import MINIMUM_PROMPTS, probe
from heretic.directions.orthogonal import scaled_reads
from heretic.directions.samples import provenance
from heretic.directions.types import DirectionSet, ResidualStatistics


@extractor("ensemble", needs_second_moment=True, needs_residuals=True, minimum_prompts=MINIMUM_PROMPTS)
def ensemble(target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions) -> DirectionSet:
    """Mix `probe` and the first direction of `pca`, side by side: what is written, and what is read.

    Unit vectors are turned towards the mean difference before they are weighted with `ensemble_weights`; PCA reads what
    it writes. Always one direction. Quality, and the layers that are left alone, are those of `probe`.

    Raises:
        ConfigurationError: As `probe`.
    """
    probed = probe(target, baseline, options).to(torch.device("cpu"))
    alone = options.model_copy(update={"n_directions": 1, "direction_weights": []})
    components = pca(target, baseline, alone).vectors.cpu()
    towards = (target.mean - baseline.mean).cpu()[:, None]
    probe_share, pca_share = options.ensemble_weights
    component = pca_share * _unit_towards(components, towards)
    vectors = _unit_towards(probe_share * _unit_towards(probed.vectors, towards) + component, towards)
    reads = probed.vectors if probed.reads is None else probed.reads
    directions = replace(
        probed,
        vectors=vectors,
        reads=scaled_reads(probe_share * _unit_towards(reads, towards) + component, vectors),
        method="ensemble",
        provenance=provenance(target, baseline, ensemble_weights=list(options.ensemble_weights)),
    )
    return directions.to(target.mean.device)


def _unit_towards(rows: Tensor, towards: Tensor) -> Tensor:
    """Rows [L+1, 1, D] of length 1 (zero stays zero) on that side of the origin on which `towards` lies."""
    lengths = rows.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    signs = torch.where((rows * towards).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    unit: Tensor = rows / lengths * signs
    return unit
