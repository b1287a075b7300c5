"""``heretic cloud list``: the machines that are rented."""

from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import CloudArguments, account, show_machines

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def run(arguments: CloudArguments, printer: "Printer") -> int:
    """Print the machines; returns the exit code.

    Raises:
        CloudError: The provider cannot be asked.
    """
    from heretic.cloud.renting import half_created

    ours = account(arguments)
    machines = ours.provider.machines()
    show_machines(machines, printer)
    for machine in half_created(machines):
        printer.line(f"{machine.id} never became ready: '{ours.program} terminate {machine.id}' gives it back.")
    return 0


COMMAND = Command(
    "list",
    CloudArguments,
    run,
    summary="List the rented machines, how they are, and what they cost.",
    description="""\
List the machines that heretic rented (those labelled heretic:), how the
provider says they are, and what they cost. A running machine need not be at
work: see status.""",
    examples={"": "All of them."},
)
