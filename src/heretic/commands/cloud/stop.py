"""``heretic cloud stop``: stop a machine, whose disk stays."""

from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import EndingArguments, agreed

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def run(arguments: EndingArguments, printer: "Printer") -> int:
    """Stop a machine; returns the exit code.

    Raises:
        CloudError: Something runs there, or the provider does not stop it.
    """
    from heretic.cloud.work import refuse_to_interrupt

    found = agreed(arguments, printer, refuse_to_interrupt, ("stop", "", "It goes on."))
    if found is None:
        return 0
    ours, machine = found
    ours.provider.stop(machine)
    printer.line(f"{machine.name} stops. {ours.kind.storage_rule}")
    printer.line(f"'{ours.program} start' lets it run again, '{ours.program} terminate' gives it back.")
    return 0


COMMAND = Command(
    "stop",
    EndingArguments,
    run,
    summary="Stop a machine; its disk is kept, and still paid for.",
    description="""\
Stop a machine, after a yes. Its disk is kept and paid for. Refused while a run
goes on there, unless --force is given.""",
    examples={"--yes": "The only machine, without a question."},
)
