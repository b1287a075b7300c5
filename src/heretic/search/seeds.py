"""The search space around seeds: free strengths along a path from mild to strong plans, varied in few dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from heretic.results.plan import EditPlan, Scope
from heretic.search.space import Range, SearchSpace

SEEDS_ATTRIBUTE = "seeds"
"""User attribute of a study: its seeds' plans, so that they are looked for only once."""
_PATH, _TILT = "seed.position", "seed.tilt"
_SCALE_RANGE = Range(0.6, 1.5)
_TILT_RANGE = Range(-0.5, 0.5)


@dataclass(frozen=True, slots=True)
class SeededSpace(SearchSpace):
    """Position on the path from no edit along the seeds, tilt over depth, and a scale for each component.

    Attributes:
        seeds: At least one plan with free strengths for every component, mild ones first; neighbours are interpolated.
            The path begins at strengths of 0, so that milder edits than the mildest seed are found as well.
        scale: What a component's strengths are multiplied by.
        tilt: At the last layer strengths are multiplied by 1 + tilt, at the first by 1 - tilt.
    """

    seeds: tuple[EditPlan, ...] = ()
    scale: Range = _SCALE_RANGE
    tilt: Range = _TILT_RANGE

    def suggest(self, trial: optuna.Trial) -> EditPlan:
        """See SearchSpace."""
        place = trial.suggest_float(_PATH, 0.0, 1.0) * len(self.seeds)
        tilt = trial.suggest_float(_TILT, self.tilt.low, self.tilt.high)
        strengths = []
        for component in self.components:
            scale = trial.suggest_float(_scale(component), self.scale.low, self.scale.high)
            values = self._on_path(component, place)
            depths = [index / max(len(values) - 1, 1) for index in range(len(values))]
            factors = [scale * (1 + tilt * (2 * depth - 1)) for depth in depths]
            strengths.append((component, tuple(v * f for v, f in zip(values, factors, strict=True))))
        return EditPlan(Scope.LAYER, None, (), self.normalization, tuple(strengths))

    def _on_path(self, component: str, place: float) -> tuple[float, ...]:
        path = [dict(seed.strengths)[component] for seed in self.seeds]
        path.insert(0, (0.0,) * len(path[0]))
        lower = min(int(place), len(path) - 1)
        upper = min(lower + 1, len(path) - 1)
        share = place - lower
        # Rounding of the place must not blend a neighbour into a seed.
        if abs(place - round(place)) < 1e-9:
            return path[round(place)]
        return tuple(a * (1 - share) + b * share for a, b in zip(path[lower], path[upper], strict=True))

    def point(self, seed: int) -> dict[str, float]:
        """The point of the space that is exactly a seed."""
        position = (seed + 1) / len(self.seeds)
        return {_PATH: position, _TILT: 0.0, **{_scale(component): 1.0 for component in self.components}}


def _scale(component: str) -> str:
    return f"seed.{component}.scale"


def seeded(space: SearchSpace, seeds: Sequence[EditPlan]) -> SearchSpace:
    """A space around seeds, or the space itself where there are none."""
    if not seeds:
        return space
    return SeededSpace(space.components, space.normalization, seeds=tuple(seeds))


def stored_seeds(study: optuna.Study) -> tuple[EditPlan, ...] | None:
    """The seeds of a study, or None where none have been looked for."""
    plans: list[dict[str, Any]] | None = study.user_attrs.get(SEEDS_ATTRIBUTE)
    return None if plans is None else tuple(EditPlan.from_json(plan) for plan in plans)


def store_seeds(study: optuna.Study, seeds: Sequence[EditPlan]) -> None:
    """Remember that seeds were looked for, and which were found."""
    study.set_user_attr(SEEDS_ATTRIBUTE, [plan.to_json() for plan in seeds])


def enqueue_seeds(study: optuna.Study, space: SeededSpace) -> int:
    """Let the seeds be tried next, those left out that were, or will be; returns their number."""
    # Those that an interruption ended are among them: `open_study` has them tried again, once.
    known = [trial.system_attrs.get("fixed_params", trial.params) for trial in study.get_trials(deepcopy=False)]
    missing = [own for own in map(space.point, range(len(space.seeds))) if own not in known]
    for parameters in missing:
        study.enqueue_trial(parameters)
    return len(missing)
