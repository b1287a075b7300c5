"""What an extractor is, and the registry that finds extractors by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from heretic.common.errors import ConfigurationError
from heretic.common.registry import Registry
from heretic.config.sections import ExtractorOptions as ExtractorOptions
from heretic.directions.types import DirectionSet, ResidualStatistics


class ExtractorFunction(Protocol):
    """From the statistics of both classes to directions; a pure function."""

    def __call__(
        self, target: ResidualStatistics, baseline: ResidualStatistics, options: ExtractorOptions
    ) -> DirectionSet:
        """Directions that point from baseline to target."""


@dataclass(frozen=True, slots=True)
class Extractor:
    """A named method.

    Attributes:
        extract: The method.
        needs_second_moment: Whether the statistics have to hold [L+1, D, D] centred second moments (covariances).
        needs_residuals: Whether the statistics have to hold the residuals of every prompt.
        minimum_prompts: Fewest prompts of a class that it can work with.
        takes_weights: Whether it reads `ExtractorOptions.direction_weights`.
        refined: Whether its directions, one at every position, are where a refinement by gradient starts.
    """

    extract: ExtractorFunction
    needs_second_moment: bool = False
    needs_residuals: bool = False
    minimum_prompts: int = 1
    takes_weights: bool = False
    refined: bool = False

    def check(self, name: str, target_count: int, baseline_count: int) -> None:
        """Refuse what can be told to be impossible from the number of prompts alone.

        Args:
            name: The extractor's name, for messages.
            target_count: Number of prompts that show the behaviour.
            baseline_count: Number of prompts that do not.

        Raises:
            ConfigurationError: There are too few.
        """
        if min(target_count, baseline_count) < self.minimum_prompts:
            raise ConfigurationError(
                f"The extractor {name} needs at least {self.minimum_prompts} prompts of each class in every layer, but "
                f"bad_prompts holds {target_count} and good_prompts {baseline_count}; give more prompts, or choose "
                "another --extractor such as mean."
            )


EXTRACTORS: Registry[Extractor] = Registry("extractor", "heretic.directions.extractors")


def extractor(name: str, **traits: Any) -> Callable[[ExtractorFunction], ExtractorFunction]:
    """Register a function as the extractor of that name; `traits` are what else `Extractor` says of it."""

    def decorate(function: ExtractorFunction) -> ExtractorFunction:
        EXTRACTORS.register(name, Extractor(function, **traits))
        return function

    return decorate
