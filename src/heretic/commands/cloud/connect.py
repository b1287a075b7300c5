"""``heretic cloud connect``: a terminal on a machine, by the system's ssh."""

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heretic.commands.base import Command, switch
from heretic.commands.cloud.base import MachineArguments, account
from heretic.common.errors import CloudError

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


@dataclass(frozen=True, slots=True)
class ConnectArguments(MachineArguments):
    """What is asked for."""

    print: bool = switch("Print the command instead.")


def run(arguments: ConnectArguments, printer: "Printer") -> int:
    """Become the system's ssh; returns its exit code where the system cannot replace a process.

    Raises:
        CloudError: The machine cannot be reached, or there is no ssh.
    """
    ours = account(arguments)
    command = ours.access().ssh(ours.machine(arguments.machine))
    if arguments.print:
        printer.line(shlex.join(command))
        return 0
    program = shutil.which(command[0])
    if program is None:
        raise CloudError("There is no ssh on this system; install OpenSSH's client, or use --print elsewhere.")
    if os.name == "nt":
        return subprocess.run([program, *command[1:]], check=False).returncode  # noqa: S603 - a list, no shell
    os.execv(program, command)  # noqa: S606 - likewise


COMMAND = Command(
    "connect",
    ConnectArguments,
    run,
    summary="Open a terminal on a machine.",
    description="""\
Open a terminal on a machine by the system's ssh, with the machine's own name
among the known host keys.""",
    examples={"--print": "The command, to be used elsewhere."},
)
