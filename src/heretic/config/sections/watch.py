"""Settings of watching a run."""

from typing import Literal

from pydantic import Field

from heretic.config.sections.section import Section, Text


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
