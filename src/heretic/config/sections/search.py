"""Settings of the search."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from heretic.config.checks import check_database_url
from heretic.config.sections.section import OBJECTIVE, Options, Section, Text, counts_as


class SamplingOptions(Options):
    """How many edits are tried, and how they are chosen."""

    n_trials: int = Field(default=200, ge=1, le=1_000_000, description="Number of edits to try, resumed ones included.")
    n_startup_trials: int = Field(
        default=20, ge=0, le=1_000_000, description="Random trials before the search learns from results."
    )
    seed: int | None = Field(
        default=None, ge=0, le=2**32 - 1, description="Seed that makes a run repeatable.", examples=[42]
    )


class ObjectiveOptions(Options):
    """What is minimised."""

    aspect = OBJECTIVE

    optimization_mode: Literal["multi", "single"] = Field(
        default="multi",
        description="Minimise behaviour and KL as two numbers, with a front to choose from, or as one weighted sum.",
    )
    kl_weight: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="Weight of one nat of KL against all of the behaviour, where the optimization mode is single.",
    )
    pruner: Literal["bound", "none"] = Field(
        default="bound",
        json_schema_extra=counts_as(None),
        description="Where the optimization mode is single, stop trials that cannot become the best any more.",
    )


class WarmStartOptions(Options):
    """Plans that are tried first."""

    use_warm_start_params: bool = Field(
        default=True,
        description="Begin with plans that worked on models of the same family, and keep the best ones of this search.",
    )
    use_shipped_profiles: bool = Field(
        default=False,
        description="Fill up with shipped plans for the family where your own are too few; where this was measured, "
        "searches were no better for it.",
    )
    warm_start_n_trials: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="How many trials begin with such plans; your own come before shipped ones.",
    )
    profile_store: Text | None = Field(
        default=None,
        description="TOML file that your best plans are kept in. Not set: heretic/profiles.toml in the folder for "
        "configuration (~/.config).",
        examples=["profiles.toml"],
    )


class EngineOptions(Options):
    """How edits are measured."""

    engine: Literal["batched", "inplace"] = Field(
        default="batched",
        description="Measure edits on what the weights put out, several to a batch, or in the weights one by one.",
    )
    candidates: int = Field(
        default=0, ge=0, le=256, description="Edits measured in one batch; 0 chooses by measured throughput."
    )


class StudyOptions(Options):
    """Where the study is kept."""

    storage: Annotated[str, AfterValidator(check_database_url)] = Field(
        default="sqlite:///heretic_study.db", description="Database URL of the study; a second run resumes it."
    )
    study_name: Text = Field(default="heretic_study", description="Name of the study in the database.")


# Pydantic collects the fields of the last base first, so the parts stand in reverse.
class SearchSection(StudyOptions, EngineOptions, WarmStartOptions, ObjectiveOptions, SamplingOptions, Section):
    """The search for the best edit."""

    title = "Search"
