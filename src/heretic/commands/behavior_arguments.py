"""The command line of ``heretic behaviors``; imports nothing heavy, so that help and typos are answered at once."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from heretic.common.errors import ConfigurationError

HELP = """\
Usage: heretic behaviors [PACK ...] [--copy FOLDER]

List the behaviours that --direction can name, and check their packs: that
every part can be read, that no prompt stands in two parts, that the training
prompts of both sides differ, and that the evaluator can be used with the
pack's patterns or hypotheses. What is on the hub is not read.

Examples:
  heretic behaviors
      All bundled packs.
  heretic behaviors verbosity mine/pack.toml
      These packs.
  heretic behaviors verbosity --copy mine
      Copy a bundled pack to a new folder, to write your own from it. Then:
      heretic MODEL --direction mine/pack.toml

Options
  --copy FOLDER
      Where to copy the one pack that is named; the folder must not exist.
      Bundled prompts are copied with it. The copy of refusal is its pack.toml
      alone, which names prompts on the hub.
  -h, --help
      Print this help.

Exit codes: 0 all can be used, 1 failed, 2 a pack cannot be used, 130
interrupted.
"""
_SEE_HELP = "run 'heretic behaviors --help' to see how it is used."


@dataclass(frozen=True, slots=True)
class BehaviorArguments:
    """What is asked for.

    Attributes:
        packs: Names and files; none for all bundled packs.
        copy: New folder, or None.
        help: Whether only the help is asked for.
    """

    packs: tuple[str, ...]
    copy: str | None
    help: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message.capitalize()}; {_SEE_HELP}")


def read_behavior_arguments(argv: Sequence[str]) -> BehaviorArguments:
    """Parse the arguments after ``behaviors``.

    Raises:
        ConfigurationError: They cannot be used.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("packs", nargs="*")
    parser.add_argument("--copy")
    parser.add_argument("-h", "--help", action="store_true")
    found = parser.parse_args(list(argv))
    if found.copy is not None and len(found.packs) != 1 and not found.help:
        raise ConfigurationError(f"--copy copies one pack, but {len(found.packs)} are named; {_SEE_HELP}")
    return BehaviorArguments(tuple(found.packs), found.copy, found.help)
