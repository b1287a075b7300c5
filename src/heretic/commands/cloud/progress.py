"""``heretic cloud progress``: how a run on a machine is now."""

import time
from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import MachineArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def run(arguments: MachineArguments, printer: "Printer") -> int:
    """Print one look at a machine; returns the exit code.

    Raises:
        CloudError: The machine cannot be reached, or nothing was set up there.
    """
    from heretic.cloud.work import site_on
    from heretic.interface.cloud_lines import look_rows

    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    with site_on(ours.access(), machine) as site:
        found = site.look()
    printer.rows(look_rows(machine, found, time.time()))
    return 0


COMMAND = Command(
    "progress",
    MachineArguments,
    run,
    summary="Show how a run is now: trials, front, GPUs, cost.",
    description="""\
Show once what watch shows all the time: trials by state, the front, GPUs,
disk, what it cost so far, and when it will be done.""",
    examples={"": "The only machine."},
)
