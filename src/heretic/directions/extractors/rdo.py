"""Refined by gradient: directions that change the behaviour most for a given divergence (arXiv 2502.17420)."""

from dataclasses import replace

from heretic.directions.extractor import ExtractorOptions, extractor
from heretic.directions.extractors.mean import mean
from heretic.directions.types import DirectionSet, ResidualStatistics


@extractor("rdo", refined=True)
def rdo(target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions) -> DirectionSet:
    """Where the refinement starts: the difference of means. After the transforms `extraction.refinement` goes on."""
    return replace(mean(target, baseline, options), method="rdo")
