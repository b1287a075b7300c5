"""Settings of finding directions."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from heretic.config.checks import check_factors, check_shares, check_weights, with_numbers
from heretic.config.sections.section import FINDING, Options, Section, Text, counts_as


class ExtractorOptions(Options):
    """What finds directions, and what it is told."""

    aspect = FINDING

    extractor: Text | None = Field(
        default=None,
        json_schema_extra=counts_as(None),
        description="Method that finds the direction: mean, pca, probe, ensemble (probe and pca), cones, leace, rdo "
        "(mean, refined by gradient), or a plug-in. Not set: rdo wherever gradients can be had, else mean.",
        examples=["mean"],
    )
    n_directions: int = Field(default=1, ge=1, le=64, description="How many directions per layer pca extracts.")
    pca_alpha: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="How strongly pca and cones discount variation that good prompts show as well.",
    )
    use_eigenvalue_weights: bool = Field(
        default=True, description="Weaken the further directions of pca and cones according to their eigenvalues."
    )
    eigenvalue_weight_method: Literal["softmax", "proportional", "log"] = Field(
        default="softmax", description="How eigenvalues become weights."
    )
    eigenvalue_weight_temperature: float = Field(
        default=1.0, gt=0, le=1000, description="Temperature of the softmax weights; higher is more even."
    )
    direction_weights: Annotated[list[float], AfterValidator(check_weights), BeforeValidator(with_numbers)] = Field(
        default=[],
        description="Strengths of pca's directions relative to the edit's, first to last, instead of eigenvalue "
        "weights; empty for none.",
    )
    min_probe_accuracy: float = Field(
        default=0.65,
        ge=0,
        le=1,
        description="Share of held-out prompts that a layer's probe has to tell apart; layers below are left alone.",
    )
    ensemble_weights: Annotated[list[float], AfterValidator(check_shares), BeforeValidator(with_numbers)] = Field(
        default=[0.7, 0.3], description="Shares of the probe and of pca in ensemble."
    )
    n_concept_cones: int = Field(
        default=5, ge=1, le=64, description="Largest number of groups that cones divides the bad prompts into."
    )
    min_cone_size: int = Field(default=10, ge=1, le=1_000_000, description="Fewest prompts of such a group.")
    directions_per_cone: int = Field(default=2, ge=1, le=64, description="Directions of each group.")
    leace_regularization: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="What leace adds to the covariance, relative to its mean variance; large values give mean. Not "
        "set: each layer gets what separates held-out prompts best.",
        examples=[1.0],
    )


class RefinementOptions(Options):
    """How directions are refined by gradient, where the extractor is one whose directions are."""

    aspect = FINDING

    rdo_steps: int = Field(default=30, ge=1, le=10_000, description="Gradient steps by which rdo refines directions.")
    rdo_prompts: int = Field(
        default=64, ge=1, le=100_000, description="Training prompts of each class that rdo looks at, at most."
    )
    rdo_max_kl: float = Field(
        default=0.05, gt=0, le=1000, description="Divergence, in nats, that rdo lets the edit it refines have."
    )


class TransformOptions(Options):
    """What is taken out of directions."""

    aspect = FINDING

    transforms: list[Text] = Field(
        default=["projected"],
        description="What is taken out of the directions, in this order: projected (their part along the mean of the "
        "good prompts), helpfulness (along the difference of unhelpful and helpful text), sacred (along directions of "
        "knowledge and reasoning), or a plug-in.",
    )
    n_sacred_directions: int = Field(
        default=5, ge=1, le=64, description="Directions of knowledge and reasoning that sacred takes out in a layer."
    )
    sacred_regularization: float = Field(
        default=0.1, ge=0, le=1000, description="How much of them sacred leaves in; 0 takes them out wholly."
    )
    sacred_overlap_threshold: float = Field(
        default=0.3, ge=0, le=1, description="Overlap of a direction with them above which sacred warns."
    )


class RoundOptions(Options):
    """Extracting again from the edited model."""

    aspect = FINDING

    iterative_rounds: int = Field(
        default=1, ge=1, le=16, description="Extract again from the edited model, so often in all, and edit both."
    )
    min_direction_magnitude: float = Field(
        default=0.1,
        ge=0,
        le=1000,
        description="Share of the first round's class difference that a further round must find.",
    )
    max_kl_per_round: float = Field(
        default=0.5, ge=0, le=1000, description="Divergence, in nats, that a further round may add at full strength."
    )


class DirectionFileOptions(Options):
    """Files that directions are written to and taken from; they say nothing of how directions are found."""

    save_directions: Text | None = Field(
        default=None, description="Also write the directions to this safetensors file.", examples=["out.safetensors"]
    )
    load_directions: list[Text] = Field(
        default=[],
        description="Use the directions in this file instead of finding them; of several files, what all of them span.",
    )
    load_directions_weights: Annotated[list[float], AfterValidator(check_factors), BeforeValidator(with_numbers)] = (
        Field(
            default=[],
            description="Strength of each file of load_directions relative to the others; empty for the same.",
        )
    )


# Pydantic collects the fields of the last base first, so the parts stand in reverse.
class DirectionSection(
    DirectionFileOptions, RoundOptions, TransformOptions, RefinementOptions, ExtractorOptions, Section
):
    """How the behaviour's direction is found."""

    title = "Direction"

    direction_source: Literal["search", "cosmic"] = Field(
        default="search",
        json_schema_extra=counts_as(FINDING),
        description="Which direction a layer loses: what the search finds best, or everywhere that of the layer which "
        "COSMIC scores best by residuals alone.",
    )
