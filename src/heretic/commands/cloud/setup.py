"""``heretic cloud setup``: install heretic on a machine."""

from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import MachineArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def run(arguments: MachineArguments, printer: "Printer") -> int:
    """Install this version of heretic on a machine; returns the exit code.

    Raises:
        CloudError: The machine cannot be reached, or it cannot be installed there.
    """
    from heretic.cloud.work import site_on

    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    with site_on(ours.access(), machine) as site:
        site.set_up(machine.gpus, printer.line)
    printer.line(f"{machine.name} is set up: '{ours.program} run MODEL' begins.")
    return 0


COMMAND = Command(
    "setup",
    MachineArguments,
    run,
    summary="Install this version of heretic on a machine.",
    description="""\
Install the version of heretic that you run on a machine, in an environment of
its own under /workspace/heretic (CLOUD_WORKSPACE names another folder). torch
is taken from the image where it is there. It may be run again.""",
    examples={"": "The only machine."},
)
