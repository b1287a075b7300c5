"""Command lines, read without guessing, and how a help lays out an entry; knows no setting, so that helps are fast.

A table of flags decides what an argument means, which is what argparse cannot do here: values may start with a minus
(``--response-prefix "-> "``), a switch takes true or false but never swallows the model's name
(``--verbose demo``), and an unknown flag is answered with the nearest known one.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from heretic.common.errors import did_you_mean

VARIABLE_PREFIX = "HERETIC_"
WIDTH = 79
SEE_HELP = "run 'heretic --help' to see them all."
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


def entry(head: str, text: str, indent: str = "  ") -> list[str]:
    """An option, command or example, and below it what it does."""
    return [
        indent + head,
        *textwrap.wrap(text, WIDTH, initial_indent=indent + "    ", subsequent_indent=indent + "    "),
    ]


_SEEDING = (
    "gradient seeding is gone, because it found nothing better than directions refined by gradient do, which are the "
    "default (experiments/methods); leave it out, or name --extractor rdo"
)
RETIRED = {
    "gradient_seeding": _SEEDING,
    "gradient_seeding_starts": _SEEDING,
    "gradient_seeding_steps": _SEEDING,
    "gradient_seeding_prompts": _SEEDING,
    "layers": (
        "all layers are edited, as 'all' said; 'discriminative' is gone, because without the layers that it left out "
        "hardly any of the behaviour was removed (experiments/methods); leave it out, or weigh ranges of layers with "
        "--layer-profile"
    ),
    "max_response_length": (
        "it changed nothing, because every answer has a length of its own: judged ones --refusal-check-tokens or what "
        "their pack says, compared ones --kl-tokens, confirmed ones --held-out-tokens; leave it out"
    ),
}
"""Setting of an earlier version -> why it went and what to use, to stand between a colon and a full stop."""


def unknown_name(shown: str, place: str, name: str, names: Iterable[str], see_help: str = SEE_HELP) -> str:
    """What is said of a setting that does not exist: where it went, the nearest known one, or where to find them all.

    Args:
        shown: How it was written, with what it is, e.g. ``option --gradient-seeding``.
        place: Where it stands, e.g. `` in config.toml``; may be empty.
        name: In the spelling of `names`.
        names: Those that there are.
        see_help: Where it can be found.
    """
    plain = name.removeprefix("--").removeprefix(VARIABLE_PREFIX).replace("-", "_").lower()
    if plain in RETIRED:
        return f"There is no {shown}{place} any more: {RETIRED[plain]}."
    if plain == "config" and not name.startswith("--"):
        return f"Unknown {shown}{place}; name the configuration file with --config PATH."
    return f"Unknown {shown}{place}; {did_you_mean(name, names) or see_help}"
