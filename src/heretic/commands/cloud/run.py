"""``heretic cloud run``: begin a run on a machine, which outlives the connection."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heretic.commands.base import Command, number, option, positional, switch
from heretic.commands.cloud.base import Account, CloudArguments, account, footprint_there
from heretic.common.errors import CloudError, ConfigurationError, HereticError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from heretic.cloud.machines import Machine
    from heretic.cloud.work import RunRequest, Site
    from heretic.config.command_line import Takes
    from heretic.interface.printer import Printer

_OWN = {"--help", "-h", "--version", "--model"}
_DISK_BESIDE = 2_000_000_000
"""Bytes for the study, logs and what is unpacked."""
_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable


_HOURS = number("a number of hours, as in 6 or 0.5", 0.001, 1000)


@dataclass(frozen=True, slots=True)
class RunArguments(CloudArguments):
    """What is asked for."""

    model: str | None = positional("MODEL")
    machine: str | None = option("MACHINE", "Which machine. [the only one]")
    destroy_when_done: bool = switch("Give the machine back once its model is fetched; stop it where nobody comes.")
    stop_when_done: bool = switch("Stop the machine when the run is over; its disk is kept.")
    max_hours: float | None = option("HOURS", "End the run after so long; what it finished is kept.", read=_HOURS)
    resume: bool = switch("Go on with the study that is there, or that was fetched.")
    hf_token: bool = switch("Give the machine HF_TOKEN, for this run alone.")
    passed_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.destroy_when_done and self.stop_when_done:
            raise ConfigurationError("--destroy-when-done and --stop-when-done contradict each other; leave one out.")
        from heretic.config.arguments import read_arguments

        layer = read_arguments(self.passed_on).layer
        if layer.problems:
            raise ConfigurationError("\n".join(layer.problems))


def run(arguments: RunArguments, printer: "Printer") -> int:
    """Begin a run; returns the exit code.

    Raises:
        CloudError: It cannot begin.
    """
    from heretic.cloud.keys import checked_model
    from heretic.cloud.work import site_on

    model = checked_model(arguments.model or "")
    _check(model, arguments)
    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    request = _request(arguments, model, machine)
    with site_on(ours.access(), machine) as site:
        _look_at_disk(site, model, arguments.resume, printer)
        _refuse_what_machine_cannot(site, request, ours)
        if arguments.resume:
            _bring_study(site, model, printer)
        answer = site.ask("start", request.to_json())
    if "refused" in answer:
        raise CloudError(f"A run goes on there already; '{ours.program} progress' shows it.")
    _keep_facts(machine, model, request)
    printer.line(f"It runs on {machine.name}, whether you are connected or not: heretic {' '.join(request.arguments)}")
    if request.when_done == "destroy":
        printer.line(
            f"When it is done, the machine waits {request.wait_hours:g} h for '{ours.program} download' and gives "
            "itself back once all is fetched; where nobody comes, or the run fails, it stops and its disk is kept."
        )
    printer.line(f"'{ours.program} watch' shows how it goes on, '{ours.program} progress' how it is now.")
    return 0


def _check(model: str, arguments: RunArguments) -> None:
    """Refuse here what heretic would refuse there, and what is only here.

    Raises:
        ConfigurationError: A value cannot be used.
    """
    from heretic.config.load import load_settings

    if model.startswith(("/", "./", "../", "~")):
        raise ConfigurationError(
            f"The folder {model[:80]} is not on the machine; name a model of the hub, or upload the folder there first."
        )
    load_settings(["--model", model, *arguments.passed_on], {}, Path(os.devnull))


def _request(arguments: RunArguments, model: str, machine: "Machine") -> "RunRequest":
    from heretic.cloud.keys import setting
    from heretic.cloud.work import RunRequest, run_arguments
    from heretic.common.redaction import remember_secret

    given, environment = run_arguments(model, arguments.passed_on, machine.gpus)
    if arguments.hf_token:
        token = setting(_TOKEN, os.environ, Path.cwd())
        if token is None:
            raise ConfigurationError(f"--hf-token gives {_TOKEN} to the machine, but it is not set here.")
        remember_secret(token)
        environment[_TOKEN] = token
    when_done = "destroy" if arguments.destroy_when_done else "stop" if arguments.stop_when_done else ""
    return RunRequest(given, environment, when_done, arguments.max_hours)


def _look_at_disk(site: "Site", model: str, resume: bool, printer: "Printer") -> None:
    """Refuse a run that will find no room on the machine for the model and its edited copy.

    Raises:
        CloudError: The disk is too full.
    """
    from heretic.interface.formatting import size

    free = int(site.look()["disk"]["free"])
    try:
        stored = footprint_there(model).stored
    except HereticError as error:
        printer.row("Disk", f"{size(free)} free on the machine; not compared with the model: {error}")
        return
    # A run that goes on has the model there already, unless it is on another machine than before.
    needed = (1 if resume else 2) * stored + _DISK_BESIDE
    printer.row("Disk", f"{size(free)} free on the machine, about {size(needed)} needed")
    if free < needed:
        raise CloudError(
            f"Only {size(free)} are free on the machine, and {size(needed)} are needed; create a larger one."
        )


def _refuse_what_machine_cannot(site: "Site", request: "RunRequest", ours: Account) -> None:
    if request.when_done and not site.ask("can_leave")["can"]:
        raise CloudError(
            f"The machine has no key of {ours.kind.title} to give itself back with; leave "
            f"--{request.when_done}-when-done out, and end it by '{ours.program} terminate'."
        )


def _bring_study(site: "Site", model: str, printer: "Printer") -> None:
    """Put the study that was fetched onto a machine that has none.

    Raises:
        CloudError: There is none.
    """
    from heretic.cloud.fetch import kept_studies, models_folder, read_facts

    path = f"{site.folder}/run/heretic_study.db"
    if site.shell.run("bash -s", f"test -e '{path}'").code == 0:
        printer.line("The machine has the study still.")
        return
    kept = kept_studies(models_folder(os.environ, Path.cwd()))
    matching = [study for study in kept if read_facts(study.parent).get("model") == model]
    if not matching:
        raise CloudError(f"No study of {model} was fetched, and there is none on the machine; leave --resume out.")
    site.shell.put(matching[0].read_bytes(), path)
    printer.line(f"The study in {matching[0].parent} was put onto the machine.")


def _keep_facts(machine: "Machine", model: str, request: "RunRequest") -> None:
    from heretic.cloud.fetch import models_folder, study_folder, write_facts

    told: dict[str, Any] = replace(request, environment={}).to_json()
    facts = {"model": model, "machine": machine.id, "price": machine.price, **told}
    write_facts(study_folder(models_folder(os.environ, Path.cwd()), machine), facts)


def _of_heretic() -> "Mapping[str, Takes]":
    from heretic.config.arguments import FLAGS

    return {flag: takes for flag, takes in FLAGS.items() if flag not in _OWN}


COMMAND = Command(
    "run",
    RunArguments,
    run,
    summary="Begin a run on a machine; takes all options of heretic.",
    description="""\
Begin a run that goes on without a connection. All options of heretic may
follow (see 'heretic --help'), and are checked before anything is sent. Nobody
can be asked there, so the trial is chosen as by --auto-select true.""",
    examples={
        "owner/name --n-trials 200 --destroy-when-done": "The machine goes once the model is fetched.",
        "owner/name --resume": "Go on, also on another machine than before.",
    },
    passes_on=_of_heretic,
)
