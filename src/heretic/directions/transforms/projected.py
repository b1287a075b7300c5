"""Directions without what points along the baseline's mean residual (projected abliteration): r - m m^T r."""

from heretic.directions.orthogonal import without_components
from heretic.directions.transform import TransformContext, TransformOptions, transform
from heretic.directions.types import DirectionSet


@transform("projected")
def projected(directions: DirectionSet, context: TransformContext, options: TransformOptions) -> DirectionSet:
    """Take the baseline's mean [L+1, D] out of both sides, so that an edit leaves it where it is."""
    return without_components(directions, context.baseline.mean[:, None, :], "projected")
