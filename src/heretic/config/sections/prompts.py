"""Settings of the prompts: PromptSpecification, where one set of them comes from, and the default datasets."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from heretic.config.checks import check_revision
from heretic.config.sections.section import Section, Text

_SLICE = re.compile(r"\[(\d*):(\d*)\]")


class PromptSpecification(BaseModel):
    """Where one set of prompts comes from and how its prompts are shaped.

    A plain string stands for its dataset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dataset: Text = Field(
        description="Hub dataset id, folder written by save_to_disk, .txt/.jsonl/.csv/.parquet file, or bundled:NAME."
    )
    config: str | None = Field(default=None, description="Configuration (subset) of the dataset.", examples=["main"])
    revision: Annotated[str, AfterValidator(check_revision)] | None = Field(
        default=None, description="Branch, tag or commit on the hub.", examples=["main"]
    )
    split: str | None = Field(default=None, description="Split, with an optional slice.", examples=["train[:400]"])
    column: str | None = Field(default=None, description="Column that holds the text.", examples=["text"])
    prefix: str = Field(default="", description="Text put before every prompt.")
    suffix: str = Field(default="", description="Text put after every prompt.")
    system_prompt: str | None = Field(
        default=None,
        description="System prompt of this set instead of the general one; an empty string means none.",
        examples=["Answer briefly."],
    )
    streaming: bool = Field(default=False, description="Read a huge dataset row by row instead of downloading it.")
    limit: int | None = Field(default=None, ge=1, description="Use at most this many prompts.", examples=[400])

    @property
    def count(self) -> int | None:
        """How many prompts these are by slice and limit alone, if the dataset has so many; None where neither says."""
        sliced = _SLICE.search(self.split or "")
        if sliced is None or not sliced[2]:
            return self.limit
        count = max(int(sliced[2]) - int(sliced[1] or 0), 1)
        return count if self.limit is None else min(count, self.limit)


def _of_dataset(value: Any) -> Any:
    """A plain string stands for its dataset."""
    return {"dataset": value} if isinstance(value, str) else value


def _defaults_under(default: PromptSpecification) -> BeforeValidator:
    """Fill in what a partly given prompt set leaves open.

    Split, column and so on of the default describe the default's dataset, so they are used only where that is kept.
    """

    def fill(value: Any) -> Any:
        value = _of_dataset(value)
        if isinstance(value, dict) and value.get("dataset", default.dataset) == default.dataset:
            return {**default.model_dump(exclude_unset=True), **value}
        return value

    return BeforeValidator(fill)


_GOOD = PromptSpecification(dataset="mlabonne/harmless_alpaca", split="train[:400]", column="text")
_BAD = PromptSpecification(dataset="mlabonne/harmful_behaviors", split="train[:320]", column="text")
_GOOD_EVALUATION = PromptSpecification(dataset="mlabonne/harmless_alpaca", split="test[:100]", column="text")
_BAD_EVALUATION = PromptSpecification(dataset="mlabonne/harmful_behaviors", split="test[:100]", column="text")
_GOOD_HELD_OUT = PromptSpecification(dataset="mlabonne/harmless_alpaca", split="test[100:200]", column="text")
_BAD_HELD_OUT = PromptSpecification(dataset="mlabonne/harmful_behaviors", split="train[320:416]", column="text")
_HELPFUL = PromptSpecification(dataset="mlabonne/harmless_alpaca", split="train[400:600]", column="text")
_UNHELPFUL = PromptSpecification(dataset="allenai/c4", config="en", split="train[:200]", column="text", streaming=True)
# Five questions of each of its 57 subjects.
_SACRED = PromptSpecification(dataset="cais/mmlu", config="all", split="dev", column="question", streaming=True)
_SACRED_BASELINE = PromptSpecification(
    dataset="allenai/c4", config="en", split="validation[:285]", column="text", streaming=True
)


class PromptSection(Section):
    """Which prompts the direction is found and measured with."""

    title = "Prompts"

    behavior: list[Text] = Field(
        default=["refusal"],
        min_length=1,
        description="The behaviour: a bundled pack such as refusal or verbosity ('heretic behaviors' lists them), or a "
        "pack's TOML file; several are edited together. Its prompts are used where no others are set below. May "
        "also be called direction.",
    )
    system_prompt: str = Field(
        default="You are a helpful assistant.",
        description="System prompt of every request; an empty string means none.",
    )
    good_prompts: Annotated[PromptSpecification, _defaults_under(_GOOD)] = Field(
        default=_GOOD, strict=False, description="Prompts without the behaviour, to find the direction."
    )
    bad_prompts: Annotated[PromptSpecification, _defaults_under(_BAD)] = Field(
        default=_BAD, strict=False, description="Prompts that show the behaviour, to find the direction."
    )
    good_evaluation_prompts: Annotated[PromptSpecification, _defaults_under(_GOOD_EVALUATION)] = Field(
        default=_GOOD_EVALUATION, strict=False, description="Prompts without the behaviour, to measure the damage (KL)."
    )
    bad_evaluation_prompts: Annotated[PromptSpecification, _defaults_under(_BAD_EVALUATION)] = Field(
        default=_BAD_EVALUATION,
        strict=False,
        description="Prompts that show the behaviour, to measure how much of it is left.",
    )
    good_held_out_prompts: Annotated[PromptSpecification, _defaults_under(_GOOD_HELD_OUT)] = Field(
        default=_GOOD_HELD_OUT,
        strict=False,
        description="Prompts without the behaviour that are read only to confirm the chosen trial.",
    )
    bad_held_out_prompts: Annotated[PromptSpecification, _defaults_under(_BAD_HELD_OUT)] = Field(
        default=_BAD_HELD_OUT,
        strict=False,
        description="Prompts that show the behaviour and are read only to confirm the chosen trial.",
    )
    keep_prompts: Annotated[PromptSpecification | None, BeforeValidator(_of_dataset)] = Field(
        default=None,
        strict=False,
        description="Prompts whose answers have to stay what they are in the behaviour's eyes, e.g. whose refusals are "
        "right: those that the original model refuses should still be refused, see keep_at_least. With refusal, wrong "
        "refusals can so be taken out and right ones left. Packs may name such sets of their own as well.",
        examples=["refuse-these.txt"],
    )
    keep_held_out_prompts: Annotated[PromptSpecification | None, BeforeValidator(_of_dataset)] = Field(
        default=None,
        strict=False,
        description="Others of their kind that are read only to confirm the chosen trial.",
        examples=["refuse-these-too.txt"],
    )
    helpful_prompts: Annotated[PromptSpecification, _defaults_under(_HELPFUL)] = Field(
        default=_HELPFUL, strict=False, description="Requests that are answered helpfully, for helpfulness."
    )
    unhelpful_prompts: Annotated[PromptSpecification, _defaults_under(_UNHELPFUL)] = Field(
        default=_UNHELPFUL, strict=False, description="Web text that asks for nothing, for helpfulness."
    )
    sacred_prompts: Annotated[PromptSpecification, _defaults_under(_SACRED)] = Field(
        default=_SACRED, strict=False, description="Questions of knowledge and reasoning, for sacred."
    )
    sacred_baseline_prompts: Annotated[PromptSpecification, _defaults_under(_SACRED_BASELINE)] = Field(
        default=_SACRED_BASELINE, strict=False, description="Plain text that asks for nothing, for sacred."
    )
