"""Command lines, read without guessing: the main command's has one flag per setting.

A table of flags decides what an argument means, which is what argparse cannot do here: values may start with a minus
(``--response-prefix "-> "``), a switch takes true or false but never swallows the model's name
(``--verbose demo``), and an unknown flag is answered with the nearest known one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from heretic.config.catalogue import NAMED, SEE_HELP, SETTINGS, flag_of, unknown_name
from heretic.config.checks import is_unicode
from heretic.config.sources import Layer

_SWITCH_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})


class Takes(Enum):
    """What may stand after a flag."""

    NOTHING = "nothing"
    SWITCH_WORD = "true or false, or nothing"
    VALUE = "a value"


@dataclass(slots=True)
class Scan:
    """A command line in parts.

    Attributes:
        given: Every known flag with its value, in order; None where it stands without one.
        alone: What belongs to no flag; where one is unknown, that may be its value.
        problems: One sentence for everything that is wrong.
        has_unknown: Whether a flag is unknown.
    """

    given: list[tuple[str, str | None]] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    has_unknown: bool = False


def scan(argv: Sequence[str], flags: Mapping[str, Takes], see_help: str = SEE_HELP) -> Scan:
    """Take a command line apart.

    Args:
        argv: The arguments.
        flags: Every flag that there is, and what it takes.
        see_help: Where all of them can be found, for the end of a sentence.
    """
    result = Scan()
    position = 0
    while position < len(argv):
        argument = argv[position]
        position += 1
        if argument == "--":
            result.alone.extend(argv[position:])
            break
        if not argument.startswith("-") or argument == "-":
            result.alone.append(argument)
            continue
        flag, equals, value = argument.partition("=")
        following = argv[position] if position < len(argv) else None
        takes = flags.get(flag)
        if takes is None:
            result.has_unknown = True
            result.problems.append(unknown_name(f"option {flag}", "", flag, flags, see_help))
        elif equals:
            result.given.append((flag, value))
            if takes is Takes.NOTHING:
                result.problems.append(f"{flag} takes no value; leave out ={value}.")
        elif takes is Takes.NOTHING:
            result.given.append((flag, None))
        elif takes is Takes.SWITCH_WORD:
            given = following if following is not None and following.lower() in _SWITCH_WORDS else None
            result.given.append((flag, given))
            position += given is not None
        elif following is None or following.partition("=")[0] in flags:
            result.problems.append(f"{flag} needs a value; write {flag} VALUE or {flag}=VALUE.")
        else:
            result.given.append((flag, following))
            position += 1
    return result


_FLAGS = {flag_of(name): setting for name, setting in NAMED.items()}
Action = Literal["help", "help_all", "version"]
"""What the main command does instead of a run."""
_ACTIONS: dict[str, Action] = {"--help": "help", "-h": "help", "--help-all": "help_all", "--version": "version"}
FLAGS: Mapping[str, Takes] = {
    **{flag: Takes.SWITCH_WORD if setting.is_switch else Takes.VALUE for flag, setting in _FLAGS.items()},
    **dict.fromkeys(_ACTIONS, Takes.NOTHING),
    "--config": Takes.VALUE,
}
"""Every flag of the main command."""


@dataclass
class Arguments:
    """What stands on the command line.

    Attributes:
        layer: The settings that it gives.
        config: Path after ``--config``.
        action: What to do instead of a run.
    """

    layer: Layer = field(default_factory=lambda: Layer("command line"))
    config: str | None = None
    action: Action | None = None


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Read the arguments after the program's name; problems are collected in the layer."""
    arguments = Arguments()
    # What is stored, shown or sent on as text has to be text.
    arguments.layer.problems.extend(
        f"Argument {number} of the command line holds bytes that are not UTF-8 text; write it in UTF-8."
        for number, argument in enumerate(argv, 1)
        if not is_unicode(argument)
    )
    scanned = scan(argv, FLAGS)
    arguments.layer.problems.extend(scanned.problems)
    for flag, value in scanned.given:
        if flag in _ACTIONS:
            arguments.action = arguments.action or _ACTIONS[flag]
        elif flag in _FLAGS:
            setting = _FLAGS[flag]
            content = True if value is None else setting.from_text(value)
            arguments.layer.put(setting, content, "the command line", flag)
        else:
            arguments.config = value
    if not scanned.has_unknown:
        _take_model(arguments.layer, scanned.alone)
    return arguments


def _take_model(layer: Layer, models: Sequence[str]) -> None:
    """Accept the model without its flag, as long as only one can be meant."""
    named = [layer.get("model"), *models] if layer.has("model") else models
    if len(set(named)) > 1:
        layer.problems.append(
            f"The command line names more than one model: {', '.join(map(repr, named))}; "
            "give one, and every other value after its flag."
        )
    elif models:
        layer.put(SETTINGS["model"], models[0], "the command line", "--model")
