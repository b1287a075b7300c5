"""``heretic cloud check``: what stands in the way of a rented machine, and the line that mends it."""

import os
from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import MachineArguments, account
from heretic.common.errors import HereticError

if TYPE_CHECKING:
    from heretic.cloud.machines import Machine
    from heretic.cloud.shell import Access
    from heretic.interface.printer import Printer


def run(arguments: MachineArguments, printer: "Printer") -> int:
    """Look at everything that is needed; 1 where something is wrong.

    Raises:
        ConfigurationError: There is no key for the provider.
        CloudError: The provider cannot be asked.
    """
    from heretic.cloud.shell import problems_of_key
    from heretic.interface.formatting import dollars

    ours = account(arguments)
    balance = ours.provider.balance()
    printer.row("Key", f"{ours.kind.key_variable} is accepted by {ours.kind.title}")
    printer.row("Balance", "not told by the provider" if balance is None else dollars(balance))
    problems = [] if balance is None or balance > 0 else [f"There is no credit: add some on {ours.kind.title}'s page."]
    try:
        access = ours.access()
        access.public_key()
    except HereticError as error:
        printer.row("Wrong", str(error))
        return HereticError.exit_code
    printer.row("SSH key", str(access.key))
    problems += problems_of_key(access)
    for machine in ours.provider.machines():
        if arguments.machine in (None, machine.id, machine.name):
            problems += _of_machine(access, machine, ours.program, printer)
    for problem in problems:
        printer.row("Wrong", problem)
    if not problems:
        printer.line("Nothing is wrong.")
    return HereticError.exit_code if problems else 0


def _of_machine(access: "Access", machine: "Machine", program: str, printer: "Printer") -> list[str]:
    from heretic.cloud.shell import connected

    if machine.only_proxy:
        return [
            f"{machine.name} is only reached by a proxy for terminals, which takes no files: create one with --secure."
        ]
    try:
        with connected(access, machine):
            printer.row("Machine", f"{machine.name} lets the key in")
    except HereticError as error:
        agent = "" if os.environ.get("SSH_AUTH_SOCK") else " (no SSH agent runs)"
        return [f"{machine.name}: {error}{agent} '{program} list' shows its state; its port changes after a reboot."]
    return []


COMMAND = Command(
    "check",
    MachineArguments,
    run,
    summary="Look for what is wrong: keys, credit, SSH; and say how to mend it.",
    description="""\
Look at the provider's key and balance, at the SSH key (its permissions, its
passphrase, the agent), and whether each machine lets it in. What is wrong is
printed with the line that mends it.""",
    examples={"": "Everything."},
    exit_codes="0 nothing is wrong, 1 something is, 2 something given cannot be used.",
)
