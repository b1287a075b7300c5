"""Settings of the search."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from heretic.config.checks import check_database_url
from heretic.config.sections.section import OBJECTIVE, Duration, Section, Text, counts_as

MOST_TRIALS = 1_000_000
OPEN_TRIALS = MOST_TRIALS + 1
"""Stands for as many trials as there is time for."""


def is_open(n_trials: int) -> bool:
    """Whether the time ends a search, and no number of trials."""
    return n_trials == OPEN_TRIALS


WorkerCount = Annotated[int, Field(ge=1, le=1024)] | Literal["auto"]
"""How many processes measure."""


class SearchSection(Section):
    """The search for the best edit: what is tried first and how often, what is minimised, how edits are measured."""

    title = "Search"

    n_trials: int = Field(
        default=200, ge=1, le=MOST_TRIALS, description="Number of edits to try, resumed ones included."
    )
    quick: bool = Field(
        default=False,
        description="A first look in a few minutes: 12 trials, at most 48 training and 24 evaluation prompts a side, "
        "shorter answers and plain directions, unless these are given as well.",
    )
    time_limit: Duration | None = Field(
        default=None,
        description="How long the run may take, e.g. 90s, 30m, 2h or 1h30m: the search stops in time for check, "
        "confirmation and saving. Where n_trials is not given as well, it tries as many edits as that allows.",
        examples=["30m"],
    )
    n_startup_trials: int = Field(
        default=20, ge=0, le=1_000_000, description="Random trials before the search learns from results."
    )
    seed: int | None = Field(
        default=None, ge=0, le=2**32 - 1, description="Seed that makes a run repeatable.", examples=[42]
    )
    optimization_mode: Literal["multi", "single"] = Field(
        default="multi",
        json_schema_extra=counts_as(OBJECTIVE),
        description="Minimise behaviour and KL as two numbers, with a front to choose from, or as one weighted sum.",
    )
    kl_weight: float = Field(
        default=1.0,
        json_schema_extra=counts_as(OBJECTIVE),
        ge=0,
        le=1000,
        description="Weight of one nat of KL against all of the behaviour, where the optimization mode is single.",
    )
    keep_at_least: float = Field(
        default=0.95,
        json_schema_extra=counts_as(OBJECTIVE),
        ge=0,
        le=1,
        description="Share of the answers that have to stay what they are (keep sets of packs, keep_prompts) which a "
        "trial must not go below to be chosen, of those that the original model answers so.",
    )
    keep_as: Literal["bound", "objective", "off"] = Field(
        default="bound",
        json_schema_extra=counts_as(OBJECTIVE),
        description="Whether such answers bound what may be chosen, or the lost ones are one more number to minimise, "
        "or nothing is kept.",
    )
    pruner: Literal["bound", "none"] = Field(
        default="bound",
        description="Where the optimization mode is single, stop trials that cannot become the best any more.",
    )
    start_from: Text | None = Field(
        default=None,
        description="Folder that Heretic saved a model to: the first trial takes the plan of that edit, of this model "
        "or a sister of it.",
        examples=["Qwen3-4B-heretic"],
    )
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
    engine: Literal["batched", "inplace"] = Field(
        default="batched",
        description="Measure edits on what the weights put out, several to a batch, or in the weights one by one.",
    )
    candidates: int = Field(
        default=0, ge=0, le=256, description="Edits measured in one batch; 0 chooses by measured throughput."
    )
    storage: Annotated[str, AfterValidator(check_database_url)] = Field(
        default="sqlite:///heretic_study.db", description="Database URL of the study; a second run resumes it."
    )
    study_name: Text | None = Field(
        default=None,
        description="Name of the study in the database. Not set: made of the model and the behaviours, such as "
        "Qwen3-4B-refusal.",
        examples=["mine"],
    )
    join: bool = Field(
        default=False,
        description="Work on the study together with other runs, on this machine or others; needs a PostgreSQL server.",
    )
    workers: WorkerCount = Field(
        default=1,
        description="Processes that measure edits beside each other: a number, or auto for one a GPU, of a model that "
        "needs several GPUs as many as fit, and on a processor one for every 4 cores; needs Ray.",
        examples=["auto"],
    )
    ray_address: Text | None = Field(
        default=None,
        description="Address of a Ray cluster that the workers run on, e.g. auto for the one of this machine. Not set: "
        "on this machine alone.",
        examples=["auto"],
    )
