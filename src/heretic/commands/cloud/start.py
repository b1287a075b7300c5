"""``heretic cloud start``: let a stopped machine run again."""

from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import MachineArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def run(arguments: MachineArguments, printer: "Printer") -> int:
    """Start a machine; returns the exit code.

    Raises:
        CloudError: The provider does not start it.
    """
    from heretic.interface.formatting import dollars

    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    ours.provider.start(machine)
    printer.line(f"{machine.name} starts, and costs {dollars(machine.price)} an hour again; its GPUs may be taken.")
    if not ours.kind.keeps_system:
        access = ours.access()
        access.hosts.forget(access.alias(machine))
        printer.line(
            "Its system begins anew, and so does its SSH host key, which is remembered at the next connection."
        )
    printer.line(f"'{ours.program} run MODEL --resume' goes on with the study.")
    return 0


COMMAND = Command(
    "start",
    MachineArguments,
    run,
    summary="Let a stopped machine run again.",
    description="""\
Start a stopped machine. Its address may be another one afterwards. A run does
not go on by itself: 'run MODEL --resume' goes on with the study.""",
    examples={"": "The only machine."},
)
