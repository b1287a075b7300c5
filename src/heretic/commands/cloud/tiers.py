"""``heretic cloud tiers``: the kinds of GPUs that can be asked for."""

from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import CloudArguments

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def run(_arguments: CloudArguments, printer: "Printer") -> int:
    """Print the table; returns the exit code."""
    from heretic.interface.cloud_lines import disk_text, tier_table
    from heretic.interface.formatting import Row

    printer.rows([Row("Tiers", table=tier_table()), Row("Disk", disk_text())])
    printer.line("Estimates in bfloat16, by the figures of 'heretic plan'; with --quantization less is needed.")
    return 0


COMMAND = Command(
    "tiers",
    CloudArguments,
    run,
    summary="List the kinds of GPUs, and what fits on them.",
    description="""\
List the kinds of GPUs that can be asked for: the memory of one, and how many
of them hold models of usual sizes beside what a run keeps. No key is needed.""",
    examples={"": "The table."},
)
