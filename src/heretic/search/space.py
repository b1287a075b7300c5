"""The search space: from an Optuna trial to an EditPlan.

Ten dimensions for a model with attention and MLP writers: scope, direction position, and per component peak weight,
peak position, floor and width. All depths are relative, so that plans carry over between models of a family.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import optuna

from heretic.edits.writer import ATTENTION, MLP
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope

SPACE_VERSION = 1
"""Part of a study's identity: raised with every change to the space."""


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval."""

    low: float
    high: float

    def clip(self, value: float) -> float:
        """The value, or the nearest edge."""
        return min(max(value, self.low), self.high)


PEAK_WEIGHTS = {
    "remove": {ATTENTION: Range(0.4, 1.6), MLP: Range(0.0, 1.6)},
    "strengthen": {ATTENTION: Range(-1.6, 0.0), MLP: Range(-1.6, 0.0)},
}
"""By goal and component: a negative weight adds to the direction's part instead of taking from it."""


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Ranges of every dimension.

    Attributes:
        components: Components with a schedule of their own.
        normalization: Not searched; part of every plan.
        fixed_position: Relative depth of the direction that every plan uses for all layers; None searches it.
        behaviors: How many behaviours are edited; each of several gets a share of the strength.
        peak_weight: By component. Editing MLPs harms more than editing attention, so their range starts at nothing.
    """

    components: tuple[str, ...]
    normalization: Normalization
    fixed_position: float | None = None
    direction_position: Range = Range(0.3, 0.9)
    peak_weight: dict[str, Range] = field(default_factory=lambda: dict(PEAK_WEIGHTS["remove"]), hash=False)
    peak_position: Range = Range(0.3, 1.0)
    floor: Range = Range(0.0, 1.0)
    width: Range = Range(0.05, 0.7)
    behaviors: int = 1
    share: Range = Range(0.0, 1.0)

    def suggest(self, trial: optuna.Trial) -> EditPlan:
        """Ask the sampler for one plan.

        Every parameter is asked for in every trial, also where another makes it irrelevant, so that the sampler sees
        the same space throughout.
        """
        scope, place = Scope.GLOBAL, self.fixed_position
        if place is None:
            scope = Scope(trial.suggest_categorical("scope", [scope.value for scope in Scope]))
            depth = self.direction_position
            position = trial.suggest_float("direction_position", depth.low, depth.high)
            place = position if scope is Scope.GLOBAL else None
        schedules = tuple((component, self._suggest_schedule(trial, component)) for component in self.components)
        return EditPlan(scope, place, schedules, self.normalization, shares=self._suggest_shares(trial))

    def _suggest_shares(self, trial: optuna.Trial) -> tuple[float, ...]:
        if self.behaviors == 1:
            return ()
        names = [f"behavior.{index}.share" for index in range(self.behaviors)]
        return tuple(trial.suggest_float(name, self.share.low, self.share.high) for name in names)

    def _suggest_schedule(self, trial: optuna.Trial, component: str) -> Schedule:
        ranges = self._ranges(component).items()
        return Schedule(**{part: trial.suggest_float(f"{component}.{part}", at.low, at.high) for part, at in ranges})

    def _ranges(self, component: str) -> dict[str, Range]:
        """By part of a schedule, in the order in which the sampler is asked."""
        ranges = {part.name: getattr(self, part.name) for part in fields(Schedule)}
        return {**ranges, "peak_weight": self.peak_weight[component]}

    def parameters(self, plan: EditPlan) -> dict[str, str | float]:
        """What `suggest` would have had to be answered to make this plan, each number moved into its range.

        Components of other models are left out, as are the shares of another number of behaviours, and what the plan
        leaves open is missing.
        """
        return {"scope": plan.scope.value, **{name: at.clip(value) for name, value, at in self._numbers(plan)}}

    def moved(self, plan: EditPlan) -> dict[str, tuple[float, float]]:
        """Parameters of a plan whose numbers are outside the space: what they are, and what they are moved to."""
        numbers = ((name, value, at.clip(value)) for name, value, at in self._numbers(plan))
        return {name: (value, clipped) for name, value, clipped in numbers if clipped != value}

    def _numbers(self, plan: EditPlan) -> Iterator[tuple[str, float, Range]]:
        if plan.direction_position is not None and self.fixed_position is None:
            yield "direction_position", plan.direction_position, self.direction_position
        for component, schedule in plan.schedules:
            if component in self.components:
                for part, values in self._ranges(component).items():
                    yield f"{component}.{part}", getattr(schedule, part), values
        if self.behaviors > 1 and len(plan.shares) == self.behaviors:
            for index, share in enumerate(plan.shares):
                yield f"behavior.{index}.share", share, self.share

    def identity(self) -> str:
        """Text that differs whenever two spaces differ."""
        ranges = [self.direction_position, *(self.peak_weight[name] for name in self.components)]
        ranges += [self.peak_position, self.floor, self.width]
        bounds = " ".join(f"{item.low}:{item.high}" for item in ranges)
        fixed = "" if self.fixed_position is None else f" position {self.fixed_position}"
        several = "" if self.behaviors == 1 else f" {self.behaviors} behaviours"
        return f"v{SPACE_VERSION} {','.join(self.components)} {self.normalization.value} {bounds}{fixed}{several}"
