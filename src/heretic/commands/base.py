"""A further command, ``heretic NAME ...``: its arguments, declared once, how they are read, and its help.

Every other module of this folder is one command: NAME.py has a `COMMAND`. It is imported for the list of commands and
for a typo too, so what takes long to import is imported where the command runs.
"""

import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from math import inf, isfinite
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import heretic.commands
from heretic.common.errors import ConfigurationError
from heretic.config.command_line import WIDTH, Takes, entry, scan

if TYPE_CHECKING:
    from heretic.interface.printer import Printer

A = TypeVar("A")
_HELP = {"--help": Takes.NOTHING, "-h": Takes.NOTHING}
_KEY = "argument"


@dataclass(frozen=True, slots=True)
class _Declared:
    """How a field of a command's arguments stands on the command line.

    Attributes:
        usage: What stands for its value, e.g. ``FILE``; what stands without a flag says how many: ``[PACK ...]``, or
            ``A B`` where the arguments' class counts them.
        text: What the help says.
        takes: What its flag takes; None where it has no flag.
        read: Makes the value of a text; a ValueError says what it must be.
    """

    usage: str
    text: str = ""
    takes: Takes | None = None
    read: Callable[[str], Any] = str

    @property
    def word(self) -> str:
        """What one value is called in a sentence."""
        return self.usage.strip("[]").split()[0].lower()

    @property
    def is_needed(self) -> bool:
        """Whether a command cannot do without it."""
        return not self.usage.startswith("[")

    @property
    def may_be_many(self) -> bool:
        """Whether several may be named, so that the value is a tuple."""
        return " " in self.usage


def positional(usage: str) -> Any:
    """Declare what stands without a flag, once a command: ``FOLDER``, ``[FOLDER]``, ``FILE [FILE ...]``, ``A B``."""
    declared = _Declared(usage)
    return field(default=() if declared.may_be_many else None, metadata={_KEY: declared})


def option(usage: str, text: str, default: Any = None, read: Callable[[str], Any] = str) -> Any:
    """Declare an option with a value, named like its field."""
    return field(default=default, metadata={_KEY: _Declared(usage, text, Takes.VALUE, read)})


def switch(text: str) -> Any:
    """Declare an option without a value, named like its field."""
    return field(default=False, metadata={_KEY: _Declared("", text, Takes.NOTHING)})


def number(expected: str, least: float, most: float = inf) -> Callable[[str], float]:
    """What reads a number within bounds; a ValueError says what it must be."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise ValueError(expected) from error
        if not isfinite(value) or not least <= value <= most:
            raise ValueError(expected)
        return value

    return read


price = number("dollars an hour, as in 2.50", 0.001)
"""Reads what an hour costs."""


def whole(expected: str, least: int, most: int) -> Callable[[str], int]:
    """The same of whole numbers."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
            raise ValueError(expected)
        return int(text)

    return read


@dataclass(frozen=True)
class Command(Generic[A]):
    """A command.

    Attributes:
        name: Word after ``heretic``.
        arguments: Frozen dataclass whose fields are made by `positional`, `option` and `switch`; where some do not go
            together, its ``__post_init__`` raises ConfigurationError.
        run: Does what is asked for and returns the exit code.
        summary: What it does, in a line of ``heretic --help``.
        description: What its own help says of it; wrapped by hand.
        examples: Arguments -> what they do.
        exit_codes: What its exit codes mean.
        program: What its name stands behind.
        passes_on: Tells flags of another program that are read too, and given on as they stand, in a field
            ``passed_on``; asked only where something is read.
    """

    name: str
    arguments: type[A]
    run: Callable[[A, "Printer"], int]
    summary: str
    description: str
    examples: Mapping[str, str] = field(default_factory=dict)
    exit_codes: str = "0 done, 1 failed, 2 something given cannot be used, 130 interrupted."
    program: str = "heretic"
    passes_on: Callable[[], Mapping[str, Takes]] = dict

    def __call__(self, argv: Sequence[str], printer: "Printer | None" = None) -> int:
        """Read the arguments after the name; print the help, or run.

        Raises:
            ConfigurationError: They cannot be used; one line per problem.
        """
        arguments = self.read(argv)
        if arguments is None:
            sys.stdout.write(self.help())
            return 0
        if printer is None:
            from heretic.interface.printer import Printer

            printer = Printer()
        return self.run(arguments, printer)

    def read(self, argv: Sequence[str]) -> A | None:
        """The arguments; None where the help is asked for.

        Raises:
            ConfigurationError: They cannot be used; one line per problem.
        """
        options = self._options()
        takes = {flag: declared.takes for flag, (_name, declared) in options.items() if declared.takes is not None}
        others = self.passes_on()
        scanned = scan(argv, {**others, **takes, **_HELP}, self._see_help)
        given = dict(scanned.given)
        if _HELP.keys() & given.keys():
            return None
        problems: list[str] = scanned.problems
        values: dict[str, Any] = {}
        if others:
            given_on = [pair for pair in scanned.given if pair[0] not in options]
            values["passed_on"] = tuple(part for pair in given_on for part in pair if part is not None)
        for flag, text in given.items():
            if flag not in options:
                continue
            name, declared = options[flag]
            if text is not None and not text.strip():
                problems.append(f"{flag} is empty; write {flag} {declared.usage}.")
                continue
            try:
                values[name] = True if text is None else declared.read(text)
            except ValueError as error:
                problems.append(f"{flag} must be {error}, but is {text}.")
        if not scanned.has_unknown:
            values.update(self._without_flag(scanned.alone, problems))
        if problems:
            raise ConfigurationError("\n".join(problems))
        return self.arguments(**values)

    @property
    def usage(self) -> str:
        """The name and what stands after it without a flag."""
        unflagged = self._positional()
        return self.name if unflagged is None else f"{self.name} {unflagged[1].usage}"

    def help(self) -> str:
        """Text of ``heretic NAME --help``, at most 80 columns wide."""
        options = self._options()
        lines = [
            f"Usage: {self.program} {self.usage}{' [options]' if options else ''}",
            "",
            self.description.strip(),
            "",
        ]
        if self.examples:
            lines.append("Examples:")
            for arguments, text in self.examples.items():
                lines += entry(f"{self.program} {self.name} {arguments}".rstrip(), text)
            lines.append("")
        lines.append("Options")
        for flag, (_name, declared) in options.items():
            lines += entry(f"{flag} {declared.usage}".rstrip(), declared.text)
        lines += [*entry("-h, --help", "Print this help."), "", textwrap.fill(f"Exit codes: {self.exit_codes}", WIDTH)]
        return "\n".join(lines) + "\n"

    @property
    def _see_help(self) -> str:
        return f"run '{self.program} {self.name} --help' to see how it is used."

    def _declared(self) -> list[tuple[str, _Declared]]:
        arguments: Any = self.arguments
        return [(part.name, part.metadata[_KEY]) for part in fields(arguments) if _KEY in part.metadata]

    def _options(self) -> dict[str, tuple[str, _Declared]]:
        return {
            "--" + name.replace("_", "-"): (name, declared) for name, declared in self._declared() if declared.takes
        }

    def _positional(self) -> tuple[str, _Declared] | None:
        return next(((name, declared) for name, declared in self._declared() if not declared.takes), None)

    def _without_flag(self, texts: Sequence[str], problems: list[str]) -> dict[str, Any]:
        """The value of what stands without a flag."""
        unflagged = self._positional()
        if unflagged is None and not texts:
            return {}
        if unflagged is None:
            problem = f"{texts[0]!r} belongs to no option of {self.program} {self.name}"
        else:
            name, declared = unflagged
            if len(texts) > 1 and not declared.may_be_many:
                problem = f"Only one {declared.word} can be named, but {len(texts)} are"
            elif not texts and declared.is_needed:
                problem = f"No {declared.word} was named"
            elif not all(text.strip() for text in texts):
                problem = f"The name of a {declared.word} is empty"
            elif not texts:
                return {}
            else:
                return {name: tuple(texts) if declared.may_be_many else texts[0]}
        problems.append(f"{problem}; {self._see_help}")
        return {}


def command_names(package: ModuleType = heretic.commands) -> tuple[str, ...]:
    """Every command; none is imported."""
    return tuple(sorted(module.name for module in iter_modules(package.__path__) if module.name != "base"))


def commands() -> list[Command[Any]]:
    """Every command, imported."""
    return [find_command(name) for name in command_names()]


def find_command(name: str, package: ModuleType = heretic.commands) -> Command[Any]:
    """The command of that name, out of `command_names`."""
    command: Command[Any] = import_module(f"{package.__name__}.{name}").COMMAND
    return command
