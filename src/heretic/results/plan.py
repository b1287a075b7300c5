"""EditPlan: what one trial changes, as plain numbers; pure, frozen, JSON-ready."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any

from heretic.results import reading


class Scope(str, Enum):
    """Which direction a layer's writers lose."""

    LAYER = "layer"
    """Each layer its own direction."""
    GLOBAL = "global"
    """All layers the direction found at one position."""


class Normalization(str, Enum):
    """Which norms of the weight an edit keeps."""

    NONE = "none"
    ROW = "row"
    COLUMN = "column"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Strength over depth: a tent around a peak, zero outside its width.

    Attributes:
        peak_weight: Strength at the peak (1 removes the direction fully).
        peak_position: Relative depth of the peak, 0 (first layer) to 1 (last).
        floor: Share of the peak weight left at the edge of the tent, 0 to 1.
        width: Relative depth from the peak to the edge.
    """

    peak_weight: float
    peak_position: float
    floor: float
    width: float

    def strength(self, layer: int, layer_count: int) -> float:
        """Strength for one layer; 0 means that the layer is left alone."""
        position = layer / max(layer_count - 1, 1)
        distance = abs(position - self.peak_position)
        if distance > self.width:
            return 0.0
        fraction = distance / self.width if self.width > 0 else 0.0
        return self.peak_weight * (1.0 - fraction * (1.0 - self.floor))


@dataclass(frozen=True, slots=True)
class EditPlan:
    """Everything that determines an edit, given the directions and the model.

    Attributes:
        scope: One direction per layer, or one for all.
        direction_position: Relative depth (0 to 1, fractional layers are interpolated) of the direction used with
            Scope.GLOBAL; None with Scope.LAYER.
        schedules: (component, schedule) pairs.
        normalization: Which norms of the weight are kept.
        shares: Of several behaviours, what each one's strength is of the plan's; empty for one behaviour.
        strengths: Those by layer, as JSON has them, of a stored plan that an earlier version made without schedules. It
            can be told of, but not applied.
    """

    scope: Scope
    direction_position: float | None
    schedules: tuple[tuple[str, Schedule], ...]
    normalization: Normalization = Normalization.NONE
    shares: tuple[float, ...] = ()
    strengths: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def strength(self, component: str, layer: int, layer_count: int) -> float:
        """Strength of the edit to one component of one layer; 0 where the plan leaves it alone.

        Raises:
            ValueError: Only earlier versions can apply the plan.
        """
        if self.strengths:
            raise ValueError("a plan with free strengths by layer is not applied any more")
        for name, schedule in self.schedules:
            if name == component:
                return schedule.strength(layer, layer_count)
        return 0.0

    def to_json(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        return {
            "scope": self.scope.value,
            "direction_position": self.direction_position,
            "schedules": {name: asdict(schedule) for name, schedule in self.schedules},
            "normalization": self.normalization.value,
            **({"shares": list(self.shares)} if self.shares else {}),
            **({"strengths": dict(self.strengths)} if self.strengths else {}),
        }

    def is_stored_as(self, data: Mapping[str, Any]) -> bool:
        """Whether these JSON values are this plan's; earlier versions wrote that there are no strengths by layer."""
        nothing: dict[str, Any] = {"strengths": {}}
        return nothing | self.to_json() == nothing | dict(data)

    @classmethod
    def from_json(cls, data: Any) -> "EditPlan":
        """The inverse of `to_json`; what is missing is as it is by default. A ValueError says what is no plan."""
        data = reading.table(data, "plan")
        scope, position = Scope(data.get("scope")), data.get("direction_position")
        if position is not None or scope is Scope.GLOBAL:
            position = reading.number(position, "direction_position")
        schedules = reading.table(data.get("schedules", {}), "schedules")
        return cls(
            scope,
            position,
            tuple((reading.text(name, "a component"), _schedule(part)) for name, part in schedules.items()),
            Normalization(data.get("normalization", Normalization.NONE)),
            tuple(reading.number(share, "a share") for share in reading.items(data.get("shares", ()), "shares")),
            dict(reading.table(data.get("strengths", {}), "strengths")),
        )


def _schedule(data: Any) -> Schedule:
    data = reading.table(data, "a schedule")
    return Schedule(*(reading.number(data.get(part.name), part.name) for part in fields(Schedule)))
