"""What an extractor is, and the registry that finds extractors by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.registry import Registry


@dataclass(frozen=True, slots=True)
class ExtractorOptions:
    """Options that extractors read.

    Attributes:
        n_directions: How many directions a layer gets (extractors that find one only ignore it).
        pca_alpha: How much of the baseline's covariance contrastive PCA subtracts.
        use_eigenvalue_weights: Weight several directions by their eigenvalues instead of equally.
        eigenvalue_weight_method: ``softmax``, ``proportional`` or ``log``.
        eigenvalue_weight_temperature: Temperature of ``softmax``.
    """

    n_directions: int = 1
    pca_alpha: float = 1.0
    use_eigenvalue_weights: bool = True
    eigenvalue_weight_method: str = "softmax"
    eigenvalue_weight_temperature: float = 1.0


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
    """

    extract: ExtractorFunction
    needs_second_moment: bool = False
    needs_residuals: bool = False


EXTRACTORS: Registry[Extractor] = Registry("extractor", "heretic.directions.extractors")


def extractor(
    name: str, needs_second_moment: bool = False, needs_residuals: bool = False
) -> Callable[[ExtractorFunction], ExtractorFunction]:
    """Register a function as the extractor of that name."""

    def decorate(function: ExtractorFunction) -> ExtractorFunction:
        EXTRACTORS.register(name, Extractor(function, needs_second_moment, needs_residuals))
        return function

    return decorate
