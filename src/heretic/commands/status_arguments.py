"""The command line of ``heretic status``; imports nothing heavy, so that help and typos are answered at once."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from heretic.common.errors import ConfigurationError
from heretic.common.file_names import expanded
from heretic.config.catalogue import SETTINGS
from heretic.config.checks import check_database_url, check_text, is_unicode
from heretic.config.sources import DEFAULT_FILE, Layer, environment_layer, file_layer

HELP = """\
Usage: heretic status [options]

Show how a study is, also while it runs in another terminal: trials by state,
the best and the front, rate, remaining time and memory. The study is only read.

Options
  --storage URL
      Database of the study.
  --study-name NAME
      Name of the study in the database.
  --config PATH
      Configuration file to take these two from. As in a run, the command line
      wins over HERETIC_STORAGE and HERETIC_STUDY_NAME, and these over the file.
      [config.toml where there is one]
  --json
      Print one JSON object on a line instead, for scripts; README says which
      keys it has.
  --watch
      Go on until Ctrl+C, or until the run has ended.
  --interval SECONDS
      How often to look with --watch. [5]
  -h, --help
      Print this help.

Exit codes: 0 done, 1 failed, 2 no such study or something given cannot be used,
130 interrupted.
"""

_SEE_HELP = "run 'heretic status --help' to see how it is used."
_OPTIONS = ("--storage", "--study-name", "--config", "--json", "--watch", "--interval", "--help")
_SHORTEST, _LONGEST = 0.2, 86_400.0


@dataclass(frozen=True, slots=True)
class StatusArguments:
    """What is asked for.

    Attributes:
        storage: Database URL.
        study_name: Name of the study.
        json: Print JSON.
        interval: Seconds between two looks, or None to look once.
        help: Only print the help.
    """

    storage: str = ""
    study_name: str = ""
    json: bool = False
    interval: float | None = None
    help: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Give what argparse has to say as a sentence of ours."""
        raise ConfigurationError(f"{message[:1].upper()}{message[1:].rstrip('.')}; {_SEE_HELP}")


def read_status_arguments(
    argv: Sequence[str], environment: Mapping[str, str] | None = None, working_directory: Path | None = None
) -> StatusArguments:
    """Read the arguments after ``heretic status``; what they leave open is what a run in this folder would use.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    environment = os.environ if environment is None else environment
    working_directory = working_directory or Path.cwd()
    parser = _Parser(prog="heretic status", add_help=False, allow_abbrev=False)
    parser.add_argument("--storage")
    parser.add_argument("--study-name")
    parser.add_argument("--config")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--watch", action="store_true")
    parser.add_argument("--interval")
    parser.add_argument("-h", "--help", action="store_true")
    known, unknown = parser.parse_known_args(argv)
    if known.help:
        return StatusArguments(help=True)
    if unknown:
        flag = unknown[0].partition("=")[0]
        if not flag.startswith("-"):
            raise ConfigurationError(f"{flag!r} is no option of heretic status; name a study with --study-name.")
        nearest = get_close_matches(flag, _OPTIONS, n=1)
        raise ConfigurationError(f"Unknown option {flag}; {f'did you mean {nearest[0]}?' if nearest else _SEE_HELP}")
    if known.interval is not None and not known.watch:
        raise ConfigurationError("--interval says how often to look with --watch; add --watch.")
    return StatusArguments(
        *study_of_a_run(known, environment, working_directory),
        known.json,
        _seconds(known.interval or "5") if known.watch else None,
    )


def study_of_a_run(known: argparse.Namespace, environment: Mapping[str, str], folder: Path) -> tuple[str, str]:
    """Storage and name of the study that a run in a folder would use.

    Args:
        known: What the command line says of ``storage``, ``study_name`` and ``config``.
        environment: Variables.
        folder: The working directory.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    layers = _layers(known, environment, folder)
    return _text("storage", layers, check_database_url), _text("study_name", layers, _check_name)


def given_study(known: argparse.Namespace) -> tuple[str | None, str | None]:
    """Storage and name of a study as far as the command line names them.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    layers = [_command_line(known)]
    storage = None if known.storage is None else _text("storage", layers, check_database_url)
    return storage, None if known.study_name is None else _text("study_name", layers, _check_name)


def _command_line(known: argparse.Namespace) -> Layer:
    given = Layer("the command line")
    for name in ("storage", "study_name"):
        if getattr(known, name) is not None:
            given.put(SETTINGS[name], getattr(known, name))
    return given


def _layers(known: argparse.Namespace, environment: Mapping[str, str], folder: Path) -> list[Layer]:
    """Command line, environment, configuration file, of which only what concerns the study has to be right."""
    names = [SETTINGS[name].variable for name in ("storage", "study_name")]
    own = {variable: value for variable, value in environment.items() if variable.upper() in names}
    layers = [_command_line(known), environment_layer(own)]
    path = folder / expanded(known.config or DEFAULT_FILE)
    if known.config is not None or path.exists():
        layers.append(file_layer(path, known.config or DEFAULT_FILE))
    problem = next((problem for layer in layers for problem in layer.problems), None)
    if problem is not None:
        raise ConfigurationError(problem)
    return layers


def _check_name(value: str) -> str:
    """Refuse what no study can be called: nothing, and bytes of the command line that are no text."""
    if not is_unicode(value):
        raise ValueError("must be UTF-8 text")
    return check_text(value)


def _text(name: str, layers: Sequence[Layer], check: Any) -> str:
    layer = next((layer for layer in layers if layer.has(name)), None)
    if layer is None:
        return str(SETTINGS[name].field.default)
    value = layer.get(name)
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be text, but {layer.speaker(name)} says {value}.")
    try:
        return str(check(value))
    except ValueError as error:
        raise ConfigurationError(f"{name} {error}, which what {layer.speaker(name)} says is not.") from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise ConfigurationError(f"--interval must be a number of seconds, but is {text}.") from error
    if not isfinite(seconds) or not _SHORTEST <= seconds <= _LONGEST:
        raise ConfigurationError(
            f"--interval must be a number of seconds from {_SHORTEST:g} to {_LONGEST:.0f}, but is {text}."
        )
    return seconds
