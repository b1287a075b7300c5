"""Events of finding, refining and storing directions."""

from collections.abc import Mapping
from dataclasses import dataclass

from heretic.observability.events.bus import Event


@dataclass(frozen=True, slots=True)
class RefinementStarted(Event):
    """Directions are refined by gradient: so many steps, with the prompts and the first tokens that are looked at."""

    steps: int
    good_prompts: int
    bad_prompts: int
    onset: tuple[str, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class RefinementFinished(Event):
    """Means over the last steps' training prompts, and the mean cosine of the directions with those they were."""

    kl: float
    share: float
    cosine: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RefinementKept(Event):
    """The refined directions are those that the study keeps from an earlier run."""


@dataclass(frozen=True, slots=True)
class RoundFinished(Event):
    """Directions were extracted again from the edited model; with a `reason` they were not kept.

    `magnitude` is the class difference that was left, relative to the first round's. `divergence` is what taking them
    out as well changes, in nats; None where it was not measured.
    """

    number: int
    magnitude: float
    divergence: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class PositionChosen(Event):
    """COSMIC chose the layer whose direction all layers lose; scores by candidate layer, higher is better."""

    layer: int
    scores: Mapping[int, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class DirectionsFound(Event):
    """Directions were extracted. `quality` has one value per residual position (layers + 1)."""

    method: str
    count_per_layer: int
    quality: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class DirectionsSaved(Event):
    """A direction file was written, with the projections of so many prompts of both classes (0: without)."""

    path: str
    target_prompts: int
    baseline_prompts: int


@dataclass(frozen=True, slots=True)
class PlansAdjusted(Event):
    """Something that changes every plan of the run was found; `note` is a sentence."""

    name: str
    note: str
    seconds: float


@dataclass(frozen=True, slots=True)
class GradientStep(Event):
    """One step of `steps`: its prompts' mean KL, and the mean probability that the behaviour begins."""

    step: int
    steps: int
    weight: float
    kl: float
    share: float
