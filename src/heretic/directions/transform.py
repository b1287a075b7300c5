"""What a transform is, and the registry that finds transforms by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from heretic.common.registry import Registry
from heretic.config.sections import TransformOptions as TransformOptions
from heretic.directions.types import DirectionSet, ResidualStatistics


@dataclass(frozen=True, slots=True)
class TransformContext:
    """What transforms may look at besides the directions.

    Attributes:
        target: Statistics of the prompts that show the behaviour.
        baseline: Statistics of the prompts that do not.
        statistics: Statistics, with the residuals of single prompts, of another prompt set, by the name of its setting;
            collected when asked for.
    """

    target: ResidualStatistics
    baseline: ResidualStatistics
    statistics: Callable[[str], ResidualStatistics]


class Transform(Protocol):
    """From directions to directions; pure, apart from the prompt sets that it asks the context for."""

    def __call__(self, directions: DirectionSet, context: TransformContext, options: TransformOptions) -> DirectionSet:
        """The changed directions, unit and orthonormal again; where `reads` are given they are rescaled to match."""


TRANSFORMS: Registry[Transform] = Registry("transform", "heretic.directions.transforms")


def transform(name: str) -> Callable[[Transform], Transform]:
    """Register a function as the transform of that name."""
    return TRANSFORMS.decorator(name)
