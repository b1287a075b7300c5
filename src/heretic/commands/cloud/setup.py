"""``heretic cloud setup``: install heretic on a machine."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import MachineArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


@dataclass(frozen=True, slots=True)
class SetupArguments(MachineArguments):
    """What is asked for."""


def run(arguments: SetupArguments, printer: "Printer") -> int:
    """Install this version of heretic on a machine; returns the exit code.

    Raises:
        CloudError: The machine cannot be reached, or it cannot be installed there.
    """
    from heretic.cloud.shell import connected
    from heretic.cloud.work import Site, workspace

    folder = workspace(os.environ, Path.cwd())
    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    with connected(ours.access(), machine) as shell:
        Site(shell, folder).set_up(machine.gpus, printer.line)
    printer.line(f"{machine.name} is set up: '{ours.program} run MODEL' begins.")
    return 0


COMMAND = Command(
    "setup",
    SetupArguments,
    run,
    summary="Install this version of heretic on a machine.",
    description="""\
Install the version of heretic that you run on a machine, in an environment of
its own under /workspace/heretic (CLOUD_WORKSPACE names another folder). torch
is taken from the image where it is there. It may be run again.""",
    examples={"": "The only machine."},
)
