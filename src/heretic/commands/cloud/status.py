"""``heretic cloud status``: how the machines and their runs are, in a line each."""

import time
from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import Account, MachineArguments, account
from heretic.common.errors import CloudError

if TYPE_CHECKING:
    from heretic.cloud.machines import Machine
    from heretic.interface.printer import Printer


def run(arguments: MachineArguments, printer: "Printer") -> int:
    """Print how machines and runs are; returns the exit code.

    Raises:
        CloudError: The provider cannot be asked.
    """
    from heretic.interface.cloud_lines import machine_text

    ours = account(arguments)
    machines = ours.provider.machines() if arguments.machine is None else [ours.machine(arguments.machine)]
    if not machines:
        printer.row("Machines", "none")
    for machine in machines:
        printer.row("Machine", machine_text(machine, time.time()))
        printer.row("", _work(ours, machine))
    return 0


def _work(ours: Account, machine: "Machine") -> str:
    from heretic.cloud.work import site_on
    from heretic.interface.cloud_lines import job_text

    try:
        with site_on(ours.access(), machine) as site:
            return job_text(site.look())
    except CloudError as error:
        return str(error)


COMMAND = Command(
    "status",
    MachineArguments,
    run,
    summary="Say how the machines and their runs are.",
    description="""\
Say of each machine how the provider says it is, and how the run on it is. That
a machine is running does not mean that something runs on it.""",
    examples={"": "All machines."},
)
