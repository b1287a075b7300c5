"""Settings of what happens with the result."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from heretic.config.checks import check_repository
from heretic.config.sections.section import Section, Size, Text


class OutputSection(Section):
    """What happens with the result."""

    title = "Result"

    auto_select: bool = Field(default=False, description="Choose a trial and save it without asking.")
    auto_select_path: Text | None = Field(
        default=None, description="Folder that the automatically chosen model is saved to.", examples=["edited-model"]
    )
    save_format: Literal["merged", "adapter"] = Field(
        default="merged", description="Save the whole model, or only the edit as a PEFT adapter."
    )
    report: bool = Field(default=True, description="Also write a report beside every saved folder; see heretic report.")
    max_shard_size: Size = Field(default="5GB", description="Largest size of one weight file.")
    hf_upload: Annotated[str, AfterValidator(check_repository)] | None = Field(
        default=None,
        description="Hub repository that the chosen model is uploaded to; the token comes from the hub's own login.",
        examples=["name/edited-model"],
    )
    hf_private: bool = Field(default=False, description="Make the uploaded repository private.")
    verbose: bool = Field(default=False, description="Show details, and prompts with their responses.")
