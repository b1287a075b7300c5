"""``heretic cloud progress``: how a run on a machine is now."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import MachineArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


@dataclass(frozen=True, slots=True)
class ProgressArguments(MachineArguments):
    """What is asked for."""


def run(arguments: ProgressArguments, printer: "Printer") -> int:
    """Print one look at a machine; returns the exit code.

    Raises:
        CloudError: The machine cannot be reached, or nothing was set up there.
    """
    from heretic.cloud.shell import connected
    from heretic.cloud.work import Site, workspace
    from heretic.interface.cloud_lines import look_rows

    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    with connected(ours.access(), machine) as shell:
        found = Site(shell, workspace(os.environ, Path.cwd())).look()
    printer.rows(look_rows(machine, found, time.time()))
    return 0


COMMAND = Command(
    "progress",
    ProgressArguments,
    run,
    summary="Show how a run is now: trials, front, GPUs, cost.",
    description="""\
Show once what watch shows all the time: trials by state, the front, GPUs,
disk, what it cost so far, and when it will be done.""",
    examples={"": "The only machine."},
)
