"""``heretic cloud terminate``: give a machine back."""

import time
from typing import TYPE_CHECKING

from heretic.commands.base import Command
from heretic.commands.cloud.base import EndingArguments, agreed

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def run(arguments: EndingArguments, printer: "Printer") -> int:
    """Give a machine back; returns the exit code.

    Raises:
        CloudError: Work would be lost, or the provider does not take it.
    """
    from heretic.cloud.renting import Renter
    from heretic.cloud.work import refuse_to_lose
    from heretic.interface.formatting import dollars

    words = ("destroy", " and all that is on it", "It stays, and is paid for.")
    found = agreed(arguments, printer, refuse_to_lose, words)
    if found is None:
        return 0
    ours, machine = found
    Renter(ours.provider, ours.program, printer.line, lambda _machine: False).destroy(machine.id)
    cost = machine.cost(time.time())
    printer.line(
        f"{machine.id} ({machine.name}) is gone{'' if cost is None else f'; it cost at most {dollars(cost)}'}."
    )
    return 0


COMMAND = Command(
    "terminate",
    EndingArguments,
    run,
    summary="Give a machine back with all that is on it.",
    description="""\
Destroy a machine, after a yes, and see that it is gone. Refused while a run
goes on there, and where a saved model or a study was not fetched, unless
--force is given. Only machines labelled heretic: can be named.""",
    examples={"--yes": "The only machine, without a question."},
)
