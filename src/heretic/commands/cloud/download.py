"""``heretic cloud download``: models and the study from a machine to one's own disk."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heretic.commands.base import Command, option
from heretic.commands.cloud.base import Account, MachineArguments, account
from heretic.common.errors import CloudError, ConfigurationError

if TYPE_CHECKING:
    from heretic.cloud.machines import Machine
    from heretic.interface.printer import Printer

_GONE_SECONDS, _LOOK_SECONDS = 60.0, 3.0


@dataclass(frozen=True, slots=True)
class DownloadArguments(MachineArguments):
    """What is asked for."""

    model: str | None = option("NAME", "Only this model, see models. [all of them]")
    to: str | None = option("FOLDER", "Put the one model there. [LOCAL_MODELS_DIR/NAME]")


def run(arguments: DownloadArguments, printer: "Printer") -> int:
    """Fetch and verify; returns the exit code.

    Raises:
        CloudError: The machine cannot be reached, or something is not as it should be.
    """
    from heretic.cloud.fetch import Fetcher, models_folder, study_folder
    from heretic.cloud.work import site_on
    from heretic.common.file_names import expanded
    from heretic.interface.formatting import size

    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    access, folder = ours.access(), models_folder(os.environ, Path.cwd())
    with site_on(access, machine) as site:
        found = site.look()
        fetcher = Fetcher(site, access, machine, printer.line)
        wanted = _wanted(arguments, found)
        for model in wanted:
            target = expanded(arguments.to) if arguments.to else folder / str(model["name"])
            printer.line(f"Fetching {model['name']}, {size(int(model['bytes']))}.")
            fetcher.model(model, target)
            printer.line(f"{target}: every file is as in the manifest.")
        study = fetcher.study(study_folder(folder, machine))
        if study is not None:
            printer.line(f"{study_folder(folder, machine)}: the study, to go on with (run --resume).")
        fetcher.remember({str(model["name"]): str(model["manifest"]) for model in wanted}, study)
        job = found["job"]
    if not wanted:
        printer.line("No model is saved there yet.")
    # What failed is looked at first.
    if job.get("exit_code") == 0 and job.get("when_done") == "destroy" and arguments.model is None:
        _see_it_go(ours, machine, printer)
    return 0


def _wanted(arguments: DownloadArguments, found: dict[str, Any]) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = found["models"]
    wanted = [model for model in models if arguments.model in (None, model["name"])]
    names = ", ".join(str(model["name"]) for model in models) or "none"
    if arguments.model is not None and not wanted:
        raise CloudError(f"There is no model {arguments.model[:60]!r} on the machine; saved are {names}.")
    if arguments.to is not None and len(wanted) != 1:
        raise ConfigurationError(f"--to takes one model; name it with --model. Saved are {names}.")
    return wanted


def _see_it_go(ours: Account, machine: "Machine", printer: "Printer") -> None:
    """Wait for a machine that gives itself back, as was asked for when the run began; do it where it does not."""
    from heretic.cloud.renting import Renter
    from heretic.interface.formatting import dollars

    ends = time.monotonic() + _GONE_SECONDS
    while ours.provider.machine(machine.id) is not None:
        if time.monotonic() >= ends:
            printer.line("The machine did not give itself back as it was told to (--destroy-when-done); doing it now.")
            Renter(ours.provider, ours.program, printer.line, lambda _machine: False).destroy(machine.id)
            break
        time.sleep(_LOOK_SECONDS)
    cost = machine.cost(time.time())
    printer.line(
        f"{machine.id} ({machine.name}) is gone{'' if cost is None else f'; it cost at most {dollars(cost)}'}."
    )


COMMAND = Command(
    "download",
    DownloadArguments,
    run,
    summary="Fetch the saved models and the study, and verify them.",
    description="""\
Fetch what was saved on a machine into LOCAL_MODELS_DIR (./models where it is
not set). What was cut off is gone on with; every file is compared with its
checksum in the manifest. After run --destroy-when-done the machine then goes.""",
    examples={"": "All that was saved on the only machine."},
)
