"""``heretic cloud models``: what was saved on a machine."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import MachineArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


@dataclass(frozen=True, slots=True)
class ModelsArguments(MachineArguments):
    """What is asked for."""


def run(arguments: ModelsArguments, printer: "Printer") -> int:
    """Print the saved models; returns the exit code.

    Raises:
        CloudError: The machine cannot be reached, or nothing was set up there.
    """
    from heretic.cloud.shell import connected
    from heretic.cloud.work import Site, workspace
    from heretic.interface.formatting import size

    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    with connected(ours.access(), machine) as shell:
        found = Site(shell, workspace(os.environ, Path.cwd())).look()
    if not found["models"]:
        printer.row("Models", "none is saved yet")
    for model in found["models"]:
        fetched = "not fetched yet" if model["name"] in found["unfetched"] else "fetched"
        printer.row("Model", f"{model['name']}: {size(int(model['bytes']))}, {fetched}")
    return 0


COMMAND = Command(
    "models",
    ModelsArguments,
    run,
    summary="List the models that were saved on a machine.",
    description="""\
List the edited models that were saved on a machine, and whether they have been
fetched.""",
    examples={"": "The only machine."},
)
