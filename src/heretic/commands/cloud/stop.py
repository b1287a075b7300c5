"""``heretic cloud stop``: stop a machine, whose disk stays."""

from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import EndingArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def run(arguments: EndingArguments, printer: "Printer") -> int:
    """Stop a machine; returns the exit code.

    Raises:
        CloudError: Something runs there, or the provider does not stop it.
    """
    from heretic.cloud.work import refuse_to_interrupt
    from heretic.interface.asking import agrees

    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    if not arguments.force:
        refuse_to_interrupt(ours.access(), machine, ours.program)
    question = f"Stop {machine.id} ({machine.name})?"
    if not arguments.yes and not agrees(question, "Run again with --yes to stop it without being asked."):
        printer.line("It goes on.")
        return 0
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
