"""The command lines of ``heretic verify`` and ``heretic checksum``; imports nothing heavy."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from heretic.common.errors import ConfigurationError

VERIFY_HELP = """\
Usage: heretic verify FOLDER

Compare every file of a model folder with the checksums in its manifest
(heretic_metadata.json), and list those that changed, are missing, or are not
in the manifest. All files are read, which takes about a second per gigabyte.

Folders that Heretic saved have a manifest; heretic checksum writes one for any
other. heretic compares such a model by itself before it is loaded.

A manifest shows that files were damaged or exchanged. It is no signature:
whoever can change the files can write another one.

Options
  -h, --help
      Print this help.

Exit codes: 0 every file is as in the manifest, 1 files differ, 2 the folder
cannot be checked.
"""

CHECKSUM_HELP = """\
Usage: heretic checksum FOLDER [options]

Write a manifest (heretic_metadata.json) with the checksum of every file of a
model folder, which heretic verify and the loading of the model compare the
files with from then on.

Options
  --replace
      Write the checksums anew where there is a manifest. What else stands in it
      (source, edit, scores) stays.
  -h, --help
      Print this help.

Exit codes: 0 done, 1 failed, 2 something given cannot be used.
"""


@dataclass(frozen=True, slots=True)
class FolderArguments:
    """What is asked for.

    Attributes:
        folder: Path of a model folder; empty where only the help is asked for.
        replace: Whether an existing manifest gets new checksums.
        help: Only print the help.
    """

    folder: str = ""
    replace: bool = False
    help: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Give what argparse has to say as a sentence of ours."""
        raise ConfigurationError(
            f"{message[:1].upper()}{message[1:].rstrip('.')}; run '{self.prog} --help' to see how it is used."
        )


def read_verify_arguments(argv: Sequence[str]) -> FolderArguments:
    """Read the arguments after ``heretic verify``.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    return _read("verify", argv, ())


def read_checksum_arguments(argv: Sequence[str]) -> FolderArguments:
    """Read the arguments after ``heretic checksum``.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    return _read("checksum", argv, ("--replace",))


def _read(command: str, argv: Sequence[str], switches: Sequence[str]) -> FolderArguments:
    parser = _Parser(prog=f"heretic {command}", add_help=False, allow_abbrev=False)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    for switch in switches:
        parser.add_argument(switch, action="store_true")
    known, unknown = parser.parse_known_intermixed_args(list(argv))
    see_help = f"run 'heretic {command} --help' to see how it is used."
    if known.help:
        return FolderArguments(help=True)
    if unknown:
        flag = unknown[0].partition("=")[0]
        nearest = get_close_matches(flag, (*switches, "--help"), n=1)
        raise ConfigurationError(f"Unknown option {flag}; {f'did you mean {nearest[0]}?' if nearest else see_help}")
    if len(known.folders) != 1 or not known.folders[0].strip():
        problem = "No folder was named" if not known.folders else "Exactly one folder must be named"
        raise ConfigurationError(f"{problem}; {see_help}")
    return FolderArguments(known.folders[0], getattr(known, "replace", False))
