"""``heretic cloud exec``: run a command on a machine."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional
from heretic.commands.cloud.base import CloudArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


@dataclass(frozen=True, slots=True)
class ExecArguments(CloudArguments):
    """What is asked for."""

    script: str | None = positional("COMMAND")
    machine: str | None = option("MACHINE", "Which machine. [the only one]")


def run(arguments: ExecArguments, printer: "Printer") -> int:
    """Run a command and print what it writes; returns its exit code.

    Raises:
        CloudError: The machine cannot be reached.
    """
    from heretic.cloud.shell import connected

    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    with connected(ours.access(), machine) as shell:
        return shell.script((arguments.script or "") + "\n", printer.line).code


COMMAND = Command(
    "exec",
    ExecArguments,
    run,
    summary="Run a command on a machine.",
    description="""\
Run a command on a machine by bash and print what it writes. It is one
argument, and goes there as it stands.""",
    examples={"'nvidia-smi; df -h /workspace'": "GPUs and disk."},
    exit_codes="that of the command, 1 the machine cannot be reached, 2 something given cannot be used.",
)
