"""Profiles: plans that worked on a model of the same family, as starting points of a search.

Depths of a plan are relative, so a plan carries over to a model with another number of layers. The shipped profiles
(config/profiles) and the user's own store (search/profile_store.py) are lists of the same TOML tables.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heretic.common.errors import HereticError, first_line
from heretic.config.sources import TomlError, parse_toml
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope

OTHERS = "others"
"""Family of whatever belongs to no other one."""
_BEGINNINGS = {
    "qwen": "qwen",
    "qwq": "qwen",
    "llama": "llama",
    "mllama": "llama",
    "mistral": "mistral",
    "mixtral": "mistral",
    "ministral": "mistral",
    "pixtral": "mistral",
    "voxtral": "mistral",
    "gemma": "gemma",
    "recurrent_gemma": "gemma",
    "recurrentgemma": "gemma",
    "paligemma": "gemma",
    "shieldgemma": "gemma",
    "vaultgemma": "gemma",
    "t5gemma": "gemma",
    "phi": "phi",
}
"""How the model types of a family begin (qwen2, qwen3_moe, ...), and the names of its classes in small letters."""
_DIGITS = 4


class ProfileError(HereticError):
    """A file of profiles cannot be used; the message is a sentence that does not name the file."""


class _Table(BaseModel):
    # Unknown keys are those of a newer Heretic, or somebody's notes.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ScheduleTable(_Table):
    """A Schedule."""

    peak_weight: float
    peak_position: float = Field(ge=0, le=1)
    floor: float = Field(ge=0, le=1)
    width: float = Field(ge=0)


class PlanTable(_Table):
    """An EditPlan without its normalisation."""

    scope: Scope
    direction_position: float | None = Field(default=None, ge=0, le=1)
    schedules: dict[str, ScheduleTable] = Field(min_length=1)


class Profile(_Table):
    """One plan with what is known about it; everything but family and plan may be unknown.

    Attributes:
        family: See `family_of`.
        goal: What the plan was for.
        normalization: Norms that the edit kept; None where it is meant for any.
        model: Hub id, or the last part of a local path.
        layers: Its number of layers.
        prompts: How many answers were judged.
        refusals_before: Answers of the original model that refused.
        refusals_after: Answers of the edited model that refused.
        kl: KL divergence in nats, by the mode `kl_mode`.
        date: ISO 8601.
        heretic: Version that measured it.
        plan: The plan.
    """

    family: str = Field(min_length=1)
    goal: Literal["remove", "strengthen"] = "remove"
    normalization: Normalization | None = None
    model: str | None = None
    layers: int | None = None
    prompts: int | None = Field(default=None, ge=1)
    refusals_before: int | None = Field(default=None, ge=0)
    refusals_after: int | None = Field(default=None, ge=0)
    kl: float | None = None
    kl_mode: str | None = None
    date: str | None = None
    heretic: str | None = None
    plan: PlanTable

    def edit_plan(self, normalization: Normalization) -> EditPlan:
        """The plan with this normalisation."""
        schedules = tuple((name, Schedule(**table.model_dump())) for name, table in self.plan.schedules.items())
        # Whoever edits the file by hand may forget a position.
        position = 0.6 if self.plan.direction_position is None else self.plan.direction_position
        return EditPlan(
            self.plan.scope, position if self.plan.scope is Scope.GLOBAL else None, schedules, normalization
        )

    @property
    def distance(self) -> float:
        """How far it was from "goal reached, no divergence", as in `results.front.knee`; infinite where unknown."""
        before, after, kl, prompts = self.refusals_before, self.refusals_after, self.kl, self.prompts
        if before is None or after is None or kl is None or prompts is None:
            return math.inf
        if self.goal == "strengthen":
            before, after = prompts - before, prompts - after
        return math.hypot(after / max(before, 1), kl)


def plan_table(plan: EditPlan) -> PlanTable:
    """A plan as a table, rounded."""
    position = plan.direction_position
    return PlanTable(
        scope=plan.scope,
        direction_position=None if position is None else round(position, _DIGITS),
        schedules={
            name: ScheduleTable(**{part: round(value, _DIGITS) for part, value in asdict(schedule).items()})
            for name, schedule in plan.schedules
        },
    )


def family_of(model_types: Iterable[str], architectures: Iterable[str]) -> str:
    """The family of a model from its configuration: its model types first, then the names of its classes.

    Args:
        model_types: ``model_type`` of the configuration and of its language model's part.
        architectures: Names of model classes.
    """
    for name in (*model_types, *architectures):
        for beginning, family in _BEGINNINGS.items():
            if name.lower().startswith(beginning):
                return family
    return OTHERS


def shipped_profiles(family: str) -> tuple[Profile, ...]:
    """The profiles that come with Heretic for a family; those of `OTHERS` where it has none."""
    folder = files("heretic.config") / "profiles"
    if family not in _BEGINNINGS.values():
        family = OTHERS
    return parse_profiles((folder / f"{family}.toml").read_text(encoding="utf-8"))


def parse_profiles(text: str) -> tuple[Profile, ...]:
    """The ``[[profile]]`` tables of a file.

    Raises:
        ProfileError: It is no TOML, or a table is not as `Profile` wants it.
    """
    try:
        content = parse_toml(text)
    except TomlError as error:
        raise ProfileError(f"it is not valid TOML: {first_line(error)}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, hundreds of nested lists
        raise ProfileError(f"it cannot be read: {first_line(error)}") from error
    tables = content.get("profile", [])
    if not isinstance(tables, list):
        raise ProfileError("'profile' is not a list of tables; write [[profile]]")
    profiles = []
    for number, table in enumerate(tables, start=1):
        try:
            profiles.append(Profile.model_validate(table))
        except ValidationError as error:
            raise ProfileError(f"profile {number}, {first_line(error)}") from error
    return tuple(profiles)


def fitting(profiles: Sequence[Profile], family: str, goal: str, normalization: Normalization) -> list[Profile]:
    """Profiles for a family, a goal and a normalisation, the best first, each plan once."""
    by_plan: dict[str, Profile] = {}
    for profile in sorted(profiles, key=lambda profile: profile.distance):
        if (profile.family, profile.goal) == (family, goal) and profile.normalization in (None, normalization):
            by_plan.setdefault(profile.plan.model_dump_json(), profile)
    return list(by_plan.values())


def toml_table(profile: Profile) -> str:
    """A profile as a ``[[profile]]`` table that can stand at the end of a TOML file."""
    return tomlkit.dumps({"profile": [profile.model_dump(mode="json", exclude_none=True)]})
