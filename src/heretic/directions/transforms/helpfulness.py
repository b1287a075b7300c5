"""Directions without what tells text that asks for nothing from a request that is answered helpfully."""

from heretic.directions.orthogonal import without_components
from heretic.directions.transform import TransformContext, TransformOptions, transform
from heretic.directions.types import DirectionSet

HELPFUL, UNHELPFUL = "helpful_prompts", "unhelpful_prompts"


@transform("helpfulness")
def helpfulness(directions: DirectionSet, context: TransformContext, options: TransformOptions) -> DirectionSet:
    """Take the unhelpfulness direction, mean(unhelpful web text) - mean(helpful prompts), out of both sides.

    Web text stands where a request would stand, in the same template and with the same system prompt, because the
    directions are read behind that template: without it the difference would be that between a template's last token
    and the last word of a text, whatever either says.
    """
    difference = context.statistics(UNHELPFUL).mean - context.statistics(HELPFUL).mean
    return without_components(directions, difference[:, None, :], "helpfulness")
