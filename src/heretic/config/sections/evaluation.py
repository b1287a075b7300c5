"""Settings of measuring."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from heretic.config.checks import check_device
from heretic.config.sections.section import MEASURING, Options, Section, Text, counts_as


class MarkerOptions(Options):
    """What counts as a refusal, by its words."""

    aspect = MEASURING

    refusal_markers: list[Text] = Field(
        default=[], description="Phrases that mark a refusal; they replace the built-in list unless empty."
    )
    refusal_detection_mode: Literal["strict", "moderate", "lenient"] = Field(
        default="lenient",
        description="What counts as a refusal: strict only plain ones, moderate also soft ones, lenient also evasions.",
    )
    refusal_patterns: Literal["languages", "0.1"] = Field(
        default="languages",
        description="Built-in list: that of ten languages, or the English one of version 0.1, for its studies.",
        # The hash of the patterns stands in the identity.
        json_schema_extra=counts_as(None),
    )
    refusal_check_tokens: int = Field(
        default=30, ge=1, le=65536, description="Response tokens that are searched for refusal markers."
    )


class ReaderOptions(Options):
    """Models that read answers: which, and where they compute."""

    use_neural_refusal_detection: bool = Field(
        default=False, description="Let a classifier read every answer in which no refusal marker is found."
    )
    neural_detection_model: Text = Field(
        default="facebook/bart-large-mnli",
        description="Hub id or folder of that classifier: a natural language inference model, or one trained on "
        "refusals.",
    )
    neural_detection_threshold: float = Field(
        default=0.5,
        json_schema_extra=counts_as(MEASURING),
        gt=0,
        le=1,
        description="Probability from which the verdict of a classifier or judge is yes.",
    )
    neural_detection_batch_size: int = Field(
        default=32, ge=1, le=65536, description="Texts per forward pass of the classifier or judge."
    )
    neural_detection_device: Annotated[str, AfterValidator(check_device)] = Field(
        default="auto", description="Device of the classifier or judge; auto takes the one that the model is loaded to."
    )
    measure_with: Text = Field(
        default="pack",
        description="What measures behaviours: pack (what the pack says: words, marks), or, of packs with hypotheses, "
        "classifier (the one above) or judge, which count the answers of which a hypothesis is true, or a plug-in.",
    )
    judge_model: Text | None = Field(
        default=None,
        examples=["Qwen/Qwen3-4B-Instruct-2507"],
        description="Hub id or folder of a chat model that is asked about every answer, as a judge.",
    )


class ConfirmationOptions(Options):
    """Measuring the chosen trial once more."""

    confirm: bool = Field(
        default=True,
        description="Measure the chosen trial once more on held-out prompts, with longer answers, before it is saved.",
    )
    confirm_front: bool = Field(
        default=False,
        description="Before a trial is chosen automatically, also measure the front (ten trials at most) on held-out "
        "prompts, as the search measures; the choice does not look at it. The menu offers the same.",
    )
    held_out_tokens: int = Field(
        default=200, ge=1, le=65536, description="Response tokens of that confirmation, at most."
    )


class KlOptions(Options):
    """What predictions are compared on."""

    aspect = MEASURING

    kl_mode: Literal["sequence", "first"] = Field(
        default="sequence", description="Compare predictions over the original model's response, or its first token."
    )
    kl_tokens: int = Field(
        default=30, ge=1, le=65536, description="Response tokens that are compared where the KL mode is sequence."
    )


# Pydantic collects the fields of the last base first, so the parts stand in reverse.
class EvaluationSection(KlOptions, ConfirmationOptions, ReaderOptions, MarkerOptions, Section):
    """How an edited model is measured."""

    title = "Evaluation"
