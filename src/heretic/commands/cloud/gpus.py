"""``heretic cloud gpus``: what can be rented now."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, switch
from heretic.commands.cloud.base import CloudArguments, account

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def _count(text: str) -> int:
    from heretic.cloud.tiers import gpu_count

    return gpu_count(text)


@dataclass(frozen=True, slots=True)
class GpusArguments(CloudArguments):
    """What is asked for."""

    gpus: int = option("NUMBER", "GPUs in one machine. [1]", default=1, read=_count)
    secure: bool = switch("Only machines of data centres.")


def run(arguments: GpusArguments, printer: "Printer") -> int:
    """Print how many offers there are of each tier, and the cheapest; returns the exit code.

    Raises:
        CloudError: The provider cannot be asked.
    """
    from heretic.cloud.machines import Wish
    from heretic.cloud.renting import Renter
    from heretic.cloud.tiers import SMALLEST_DISK, TIERS
    from heretic.interface.cloud_lines import gpu_rows

    ours = account(arguments)
    renter = Renter(ours.provider, ours.program, printer.line, lambda _machine: False)
    found = []
    for name, tier in TIERS.items():
        ask = partial(ours.provider.offers, tier, Wish(name, arguments.gpus, SMALLEST_DISK, arguments.secure))
        found.append((name, renter.patiently(ask)))
    printer.rows(gpu_rows(found))
    return 0


COMMAND = Command(
    "gpus",
    GpusArguments,
    run,
    summary="List what can be rented now, and from which price.",
    description="""\
Ask the provider what can be rented now: for each tier the number of offers and
the cheapest price.""",
    examples={"--gpus 2": "Machines with two GPUs."},
)
