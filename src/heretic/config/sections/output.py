"""Settings of what comes out of a run: its result, and what is seen of it on the way."""

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


class WatchSection(Section):
    """How a run is watched; nothing of this changes what is measured."""

    title = "Watching"

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least important messages that are shown and logged; debug adds speed and memory of every batch.",
    )
    log_file: Text | None = Field(
        default=None, description="Also append every step to this file, as JSON lines.", examples=["heretic.log"]
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Serve metrics for Prometheus on this port.", examples=[9464]
    )
    metrics_address: Text = Field(
        default="127.0.0.1", description="Address that they are served on; 0.0.0.0 lets other machines read them."
    )
    metrics_file: Text | None = Field(
        default=None,
        description="Also write the metrics to this file after every batch of trials, for node_exporter.",
        examples=["heretic.prom"],
    )
    tracker: Text | None = Field(
        default=None,
        description="Also send every trial to this experiment tracker: mlflow or wandb.",
        examples=["mlflow"],
    )
