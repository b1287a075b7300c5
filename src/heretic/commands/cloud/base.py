"""What the commands for rented machines share, and the command that they belong to."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from heretic.commands.base import Command, command_names, find_command, option, positional, switch
from heretic.common.errors import ConfigurationError
from heretic.config.command_line import entry, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from heretic.cloud.machines import Machine
    from heretic.cloud.provider import Provider, ProviderKind
    from heretic.cloud.shell import Access
    from heretic.interface.printer import Printer
    from heretic.models.footprint import Footprint

_WHICH_PROVIDER = "vast or runpod; heretic-vast and heretic-runpod say it themselves."


@dataclass(frozen=True, slots=True)
class CloudArguments:
    """What every command for rented machines can be asked."""

    provider: str | None = option("NAME", _WHICH_PROVIDER)


@dataclass(frozen=True, slots=True)
class MachineArguments(CloudArguments):
    """Which machine."""

    machine: str | None = positional("[MACHINE]")


@dataclass(frozen=True, slots=True)
class EndingArguments(MachineArguments):
    """Which machine is no longer needed."""

    yes: bool = switch("Do not ask.")
    force: bool = switch("Also where work would be lost.")


@dataclass(frozen=True, slots=True)
class Account:
    """A provider with the user's key."""

    kind: "ProviderKind"
    provider: "Provider"

    @property
    def program(self) -> str:
        """What next steps begin with."""
        return f"heretic-{self.kind.name}"

    def machine(self, name: str | None) -> "Machine":
        """The machine that is meant; the only one where none is named.

        Raises:
            ConfigurationError: There is none, or it is not clear which.
            CloudError: The provider cannot be asked.
        """
        from heretic.cloud.provider import ours

        return ours(self.provider.machines(), name, self.program)

    def machines(self, names: Sequence[str]) -> "list[Machine]":
        """The machines that are meant; all where none is named. Raises what `machine` does."""
        from heretic.cloud.provider import ours

        found = self.provider.machines()
        wanted: list[str | None] = list(names) or [machine.id for machine in found] or [None]
        return [ours(found, name, self.program) for name in wanted]

    def access(self) -> "Access":
        """How its machines are reached.

        Raises:
            ConfigurationError: There is no SSH key.
        """
        from heretic.cloud.shell import Access

        return Access.of(self.kind.name, os.environ, Path.cwd())


def account(arguments: CloudArguments) -> Account:
    """The provider that is meant.

    Raises:
        ConfigurationError: None is, or its key is missing or wrong.
        CloudError: A package is not installed.
    """
    from heretic.cloud.provider import PROVIDERS

    if arguments.provider is None:
        raise ConfigurationError("No provider was named; use heretic-vast or heretic-runpod, or add --provider NAME.")
    kind = PROVIDERS.get(arguments.provider)
    return Account(kind, kind.open(os.environ, Path.cwd()))


def footprint_there(model: str) -> "Footprint":
    """What a run with the usual settings takes of a machine.

    Raises:
        ModelError: Nothing says how large the model is.
    """
    from heretic.cloud.keys import checked_model
    from heretic.config import Settings
    from heretic.models.footprint import footprint_of
    from heretic.models.location import locate

    return footprint_of(locate(checked_model(model)), Settings(model=model))


def agreed(
    arguments: EndingArguments,
    printer: "Printer",
    refuse: "Callable[[Access, Machine, str], None]",
    words: tuple[str, str, str],
) -> "tuple[Account, Machine] | None":
    """The machine that is to be ended, once nothing is lost by that and a person has said yes; None where they do not.

    Args:
        arguments: What is asked for.
        printer: Shows the machine.
        refuse: Raises where work would be lost.
        words: What is done, what more is said of the machine, and what is said where it is not done.

    Raises:
        CloudError: Work would be lost, and --force was not given.
    """
    from heretic.interface.asking import agrees
    from heretic.interface.cloud_lines import machine_text

    verb, all_of_it, left = words
    ours = account(arguments)
    machine = ours.machine(arguments.machine)
    printer.row("Machine", machine_text(machine, time.time()))
    if not arguments.force:
        refuse(ours.access(), machine, ours.program)
    question = f"{verb.capitalize()} {machine.id} ({machine.name}){all_of_it}?"
    if not arguments.yes and not agrees(question, f"Run again with --yes to {verb} it without being asked."):
        printer.line(left)
        return None
    return ours, machine


def show_machines(machines: Sequence["Machine"], printer: "Printer") -> None:
    """Print a row for each machine."""
    from heretic.interface.cloud_lines import machine_rows

    printer.rows(machine_rows(machines, time.time()))


@dataclass(frozen=True, slots=True)
class GroupArguments:
    """What stands before a command."""

    provider: str | None = option("NAME", _WHICH_PROVIDER)
    command: tuple[str, ...] = positional("[COMMAND ...]")


@dataclass(frozen=True)
class Group(Command[GroupArguments]):
    """A command of commands: what stands behind the name of one is read by that."""

    def __call__(self, argv: Sequence[str], printer: "Printer | None" = None) -> int:
        """Run a command of the group, or print the group's help; see `Command`."""
        provider, rest = _provider_first(argv)
        if rest and rest[0] in _names():
            command = find_command(rest[0], _package())
            if provider is None:
                return replace(command, program="heretic cloud")(rest[1:], printer)
            return replace(command, program=f"heretic-{provider}")(["--provider", provider, *rest[1:]], printer)
        group = self if provider is None else replace(self, program=f"heretic-{provider}", name="")
        return Command.__call__(group, argv, printer)

    def help(self) -> str:
        """See `Command`; with a line for every command."""
        commands = [find_command(name, _package()) for name in _names()]
        width = max(len(command.name) for command in commands)
        lines = [f"Usage: {' '.join(filter(None, (self.program, self.usage.strip())))} [options]", ""]
        lines += [self.description.strip(), "", "Commands"]
        lines += [f"  {command.name:<{width}}  {command.summary}" for command in commands]
        lines += ["", "Examples:"]
        program = self.program if self.program != "heretic" else "heretic-vast"
        lines += [line for arguments, text in self.examples.items() for line in entry(f"{program} {arguments}", text)]
        lines += ["", "Options"]
        lines += entry("--provider NAME", _WHICH_PROVIDER)
        lines += [*entry("-h, --help", "Print this help, or that of a command."), "", f"Exit codes: {self.exit_codes}"]
        return "\n".join(lines) + "\n"


def _package() -> ModuleType:
    return sys.modules[__package__]


def _names() -> tuple[str, ...]:
    return command_names(_package())


def _provider_first(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The provider that stands before a command, and what follows it."""
    rest = list(argv)
    if rest[:1] == ["--provider"] and len(rest) > 1:
        return rest[1], rest[2:]
    if rest and rest[0].startswith("--provider="):
        return rest[0].partition("=")[2], rest[1:]
    return None, rest


def refuse(arguments: GroupArguments, _printer: "Printer") -> int:
    """Say that there is no such command, or that none was named.

    Raises:
        ConfigurationError: Always.
    """
    program = "heretic cloud" if arguments.provider is None else f"heretic-{arguments.provider}"
    see_help = f"run '{program} --help' to see all of them."
    if not arguments.command:
        raise ConfigurationError(f"No command was named; {see_help}")
    name = arguments.command[0]
    raise ConfigurationError(unknown_name(f"command {name[:40]}", "", name, _names(), see_help))


COMMAND = Group(
    "cloud",
    GroupArguments,
    refuse,
    summary="Rent a GPU, run there, get the model (heretic-vast, -runpod).",
    description="""\
Rent a machine with GPUs, run heretic there, and get the edited model. Keys are
VAST_API_KEY and RUNPOD_API_KEY, in the environment or in a file .env here.""",
    examples={
        "create A100_80GB --model owner/name": "Rent a machine whose disk holds that model.",
        "setup && heretic-vast run owner/name": "Install heretic there, and begin.",
    },
    exit_codes="0 done, 1 failed, 2 something given cannot be used.",
)
