"""Settings of what else is measured: abilities."""

from pydantic import Field

from heretic.config.sections.section import Section, Text


class ValidationSection(Section):
    """What else is measured of the original and of the chosen edited model: what they are able to do."""

    title = "Validation"

    enable_validation: bool = Field(
        default=False,
        description="Also let the original and the chosen edited model answer multiple-choice questions, and compare.",
    )
    mmlu_dataset: Text = Field(
        default="cais/mmlu",
        description="Where these come from: a hub dataset built like MMLU, a .jsonl file, or "
        "bundled:capability/multiple_choice, which also stands in for the default where the hub cannot be reached.",
    )
    mmlu_categories: list[Text] = Field(
        default=[],
        description="Categories of questions (subjects of MMLU); empty for 12 subjects of MMLU, or for all of a file.",
    )
    mmlu_samples_per_category: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="Questions of each category, drawn by the seed; all where there are fewer.",
    )
    mmlu_few_shot: int = Field(
        default=3, ge=0, le=100, description="Worked examples before every question, out of its category."
    )
    benchmarks: list[Text] = Field(
        default=[],
        description="Also run these tasks of the Language Model Evaluation Harness on both models, e.g. "
        "hellaswag,arc_easy; needs the package lm_eval.",
    )
    benchmark_limit: int | None = Field(
        default=None, ge=1, description="Only the first so many items of each task (and subtask).", examples=[200]
    )
