"""The command line of the main command, which has one flag per setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from heretic.config.catalogue import NAMED, SETTINGS, flag_of
from heretic.config.checks import is_unicode
from heretic.config.command_line import Takes, scan
from heretic.config.sources import Layer

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
