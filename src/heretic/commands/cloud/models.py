"""``heretic cloud models``: what was saved on a machine."""

from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import MachineArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def run(arguments: MachineArguments, printer: "Printer") -> int:
    """Print the saved models; returns the exit code.

    Raises:
        CloudError: The machine cannot be reached, or nothing was set up there.
    """
    from heretic.cloud.work import site_on
    from heretic.interface.formatting import size

    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    with site_on(ours.access(), machine) as site:
        found = site.look()
    if not found["models"]:
        printer.row("Models", "none is saved yet")
    for model in found["models"]:
        fetched = "not fetched yet" if model["name"] in found["unfetched"] else "fetched"
        printer.row("Model", f"{model['name']}: {size(int(model['bytes']))}, {fetched}")
    return 0


COMMAND = Command(
    "models",
    MachineArguments,
    run,
    summary="List the models that were saved on a machine.",
    description="""\
List the edited models that were saved on a machine, and whether they have been
fetched.""",
    examples={"": "The only machine."},
)
