"""The command line: one flag per setting, read without guessing.

A table of flags decides what a argument means, which is what argparse cannot do here: values may start with a minus
(``--response-prefix "-> "``), a switch takes true or false but never swallows the model's name
(``--verbose demo``), and an unknown flag is answered with the nearest known one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from heretic.config.catalogue import SETTINGS, unknown_name
from heretic.config.checks import is_unicode
from heretic.config.sources import Layer

_SWITCH_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})
_FLAGS = {setting.flag: setting for setting in SETTINGS.values()}
_ACTIONS: dict[str, Literal["help", "version"]] = {"--help": "help", "-h": "help", "--version": "version"}
_KNOWN = (*_FLAGS, *_ACTIONS, "--config")


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
    action: Literal["help", "version"] | None = None
    _models: list[str] = field(default_factory=list)
    _has_unknown_flag: bool = False


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Read the arguments after the program's name; problems are collected in the layer."""
    arguments = Arguments()
    # What is stored, shown or sent on as text has to be text.
    arguments.layer.problems.extend(
        f"Argument {number} of the command line holds bytes that are not UTF-8 text; write it in UTF-8."
        for number, argument in enumerate(argv, 1)
        if not is_unicode(argument)
    )
    position = 0
    while position < len(argv):
        argument = argv[position]
        position += 1
        if argument == "--":
            arguments._models.extend(argv[position:])
            break
        if not argument.startswith("-") or argument == "-":
            arguments._models.append(argument)
            continue
        flag, equals, value = argument.partition("=")
        following = value if equals else (argv[position] if position < len(argv) else None)
        if _take_flag(arguments, flag, following, joined=bool(equals)) and not equals:
            position += 1
    _take_model(arguments)
    return arguments


def _take_flag(arguments: Arguments, flag: str, following: str | None, *, joined: bool) -> bool:
    """Handle one flag; return whether the following argument was its value."""
    problems = arguments.layer.problems
    if flag in _ACTIONS:
        arguments.action = arguments.action or _ACTIONS[flag]
        return False
    if flag not in _KNOWN:
        arguments._has_unknown_flag = True
        problems.append(unknown_name(f"option {flag}", "", flag, _KNOWN))
        return False
    setting = _FLAGS.get(flag)
    if setting is not None and setting.is_switch and not joined:
        takes = following is not None and following.lower() in _SWITCH_WORDS
        arguments.layer.put(setting, setting.from_text(following) if takes and following else True, "the command line")
        return takes
    if following is None or (not joined and following.partition("=")[0] in _KNOWN):
        problems.append(f"{flag} needs a value; write {flag} VALUE or {flag}=VALUE.")
        return False
    if setting is None:
        arguments.config = following
    else:
        arguments.layer.put(setting, setting.from_text(following), "the command line")
    return True


def _take_model(arguments: Arguments) -> None:
    """Accept the model without its flag, as long as only one can be meant."""
    if arguments._has_unknown_flag:
        # What stands alone may be the value of the unknown flag.
        return
    layer, models = arguments.layer, arguments._models
    named = [layer.get("model"), *models] if layer.has("model") else models
    if len(set(named)) > 1:
        layer.problems.append(
            f"The command line names more than one model: {', '.join(map(repr, named))}; "
            "give one, and every other value after its flag."
        )
    elif models:
        layer.put(SETTINGS["model"], models[0], "the command line")
