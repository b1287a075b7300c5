"""Settings of the edit."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from heretic.config.checks import check_profile
from heretic.config.sections.section import ADJUSTING, MEASURING, Options, Section, counts_as


class EditOptions(Options):
    """How strongly which weights are changed."""

    goal: Literal["remove", "strengthen"] = Field(
        default="remove",
        json_schema_extra=counts_as(MEASURING),
        description="Remove the behaviour, or strengthen it: the search then wants answers without it to become few.",
    )
    normalization: Literal["none", "row", "column"] = Field(
        default="row", description="Which norms of an edited weight matrix stay exactly as they were."
    )
    layer_profile: Annotated[list[list[float]], AfterValidator(check_profile)] = Field(
        default=[],
        json_schema_extra=counts_as(ADJUSTING),
        description="Factors on the strength by relative depth, [from, to, factor] each; 1 elsewhere, empty for none, "
        "e.g. [[0, 0.4, 0.5], [0.4, 0.7, 1], [0.7, 1, 0.8]].",
    )
    cache_weights: bool = Field(
        default=True,
        description="Keep a copy of the editable weights in memory where every trial edits them (--engine inplace); "
        "false, as with the batched engine, reads them from the model's files, and copies only what these do not hold.",
    )


class ActivationOptions(Options):
    """Strengths that follow how active a layer is."""

    aspect = ADJUSTING

    use_activation_calibration: bool = Field(
        default=False, description="Edit layers more strongly the more active they are along their direction."
    )
    activation_percentile: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="Which share of the bad prompts stays below a layer's activation in that calibration.",
    )
    activation_factor_min: float = Field(
        default=0.5, ge=0, le=100, description="Smallest factor of the activation calibration."
    )
    activation_factor_max: float = Field(
        default=2.0, gt=0, le=100, description="Largest factor of the activation calibration."
    )


class ComplianceOptions(Options):
    """Moving layers towards what the model answers (contrastive activation addition)."""

    aspect = ADJUSTING

    use_caa: bool = Field(
        default=False,
        description="Also move edited layers towards what the model answers instead of refuses; saved as biases, which "
        "not every model class has.",
    )
    caa_strength: float = Field(
        default=0.3, gt=0, le=100, description="How far, in mean differences between answered and refused bad prompts."
    )
    caa_overlap_threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Leave out layers where that direction's cosine with the removed one is larger (either sign).",
    )


class CircuitOptions(Options):
    """Editing attention heads alone."""

    aspect = ADJUSTING

    use_circuit_ablation: bool = Field(
        default=False, description="Edit only the attention heads that carry the behaviour, and nothing else."
    )
    n_refusal_circuits: int = Field(default=20, ge=1, le=100_000, description="How many attention heads at most.")


# Pydantic collects the fields of the last base first, so the parts stand in reverse.
class EditSection(CircuitOptions, ComplianceOptions, ActivationOptions, EditOptions, Section):
    """How the weights are changed."""

    title = "Edit"
