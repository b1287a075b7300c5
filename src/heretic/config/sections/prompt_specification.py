"""PromptSpecification: where one set of prompts comes from."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from heretic.config.checks import check_revision
from heretic.config.sections.section import Text


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
