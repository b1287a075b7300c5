"""The command line of ``heretic report``; imports nothing heavy, so that help and typos are answered at once."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from heretic.commands.status_arguments import given_study, study_of_a_run
from heretic.common.errors import ConfigurationError

HELP = """\
Usage: heretic report [FOLDER] [options]

Write a report: one HTML page that needs no network, heretic_report.html, and
its charts as PNG files. It shows the trials and the Pareto front, which
parameters matter, the edit layer by layer, and what held-out prompts showed.

FOLDER is a model that Heretic saved. Its manifest says what was edited and
measured, and which study it came from; where that study is not found, the
report has no front and says why. Without FOLDER the report is about a study:
the one that a run in this folder would use, or the one that is named.

Options
  --storage URL
      Database of the study.
  --study-name NAME
      Name of the study in the database.
  --config PATH
      Without FOLDER: configuration file to take these two from.
      [config.toml where there is one]
  --directions FILE
      Direction file, for the quality of the directions by layer.
  --output DIR
      Folder to write the report to; an earlier report in it is replaced.
      [FOLDER_report, or NAME_report for a study]
  -h, --help
      Print this help.

Exit codes: 0 done, 1 failed, 2 no such study or something given cannot be used,
130 interrupted.
"""
_SEE_HELP = "run 'heretic report --help' to see how it is used."
_OPTIONS = ("--storage", "--study-name", "--config", "--directions", "--output", "--help")


@dataclass(frozen=True, slots=True)
class ReportArguments:
    """What is asked for.

    Attributes:
        folder: Path of a saved model, or None for a study alone.
        storage: Database URL; None where the manifest is to say it.
        study_name: Name of the study; None where the manifest is to say it.
        directions: Path of a direction file, or None.
        output: Path of the report's folder, or None for the usual one.
        help: Only print the help.
    """

    folder: str | None = None
    storage: str | None = None
    study_name: str | None = None
    directions: str | None = None
    output: str | None = None
    help: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Give what argparse has to say as a sentence of ours."""
        raise ConfigurationError(f"{message[:1].upper()}{message[1:].rstrip('.')}; {_SEE_HELP}")


def read_report_arguments(
    argv: Sequence[str], environment: Mapping[str, str] | None = None, working_directory: Path | None = None
) -> ReportArguments:
    """Read the arguments after ``heretic report``.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    environment = os.environ if environment is None else environment
    parser = _Parser(prog="heretic report", add_help=False, allow_abbrev=False)
    parser.add_argument("folders", nargs="*")
    for option in _OPTIONS[:-1]:
        parser.add_argument(option)
    parser.add_argument("-h", "--help", action="store_true")
    known, unknown = parser.parse_known_intermixed_args(list(argv))
    if known.help:
        return ReportArguments(help=True)
    if unknown:
        flag = unknown[0].partition("=")[0]
        nearest = get_close_matches(flag, _OPTIONS, n=1)
        raise ConfigurationError(f"Unknown option {flag}; {f'did you mean {nearest[0]}?' if nearest else _SEE_HELP}")
    if len(known.folders) > 1:
        raise ConfigurationError(f"At most one folder can be named, but {len(known.folders)} are; {_SEE_HELP}")
    for option, value in (("FOLDER", [*known.folders, None][0]), ("--output", known.output)):
        if value is not None and not value.strip():
            raise ConfigurationError(f"{option} must be a path, but is empty; {_SEE_HELP}")
    if not known.folders:
        study = study_of_a_run(known, environment, working_directory or Path.cwd())
        return ReportArguments(None, *study, known.directions, known.output)
    if known.config is not None:
        raise ConfigurationError("--config is for a report without a folder; name the study with --storage instead.")
    return ReportArguments(known.folders[0], *given_study(known), known.directions, known.output)
