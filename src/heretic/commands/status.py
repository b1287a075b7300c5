"""``heretic status``: a study as it is now, from another terminal than the run's."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, switch
from heretic.common.errors import ConfigurationError
from heretic.config.study import study_of_a_run

if TYPE_CHECKING:
    from heretic.interface.printer import Printer
    from heretic.search.status import StudyReader, StudyStatus

_SHORTEST, _LONGEST = 0.2, 86_400.0
_USUAL_SECONDS = 5.0


def _seconds(text: str) -> float:
    expected = f"a number of seconds from {_SHORTEST:g} to {_LONGEST:.0f}"
    try:
        seconds = float(text)
    except ValueError as error:
        raise ValueError(expected) from error
    if not isfinite(seconds) or not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError(expected)
    return seconds


@dataclass(frozen=True, slots=True)
class StatusArguments:
    """What is asked for."""

    storage: str | None = option("URL", "Database of the study.")
    study_name: str | None = option("NAME", "Name of the study in the database.")
    config: str | None = option(
        "PATH",
        "Configuration file to take these two from. As in a run, the command line wins over HERETIC_STORAGE and "
        "HERETIC_STUDY_NAME, and these over the file. [config.toml where there is one]",
    )
    json: bool = switch("Print one JSON object on a line instead, for scripts; README says which keys it has.")
    watch: bool = switch("Go on until Ctrl+C, or until the run has ended.")
    interval: float | None = option("SECONDS", f"How often to look with --watch. [{_USUAL_SECONDS:g}]", read=_seconds)

    def __post_init__(self) -> None:
        if self.interval is not None and not self.watch:
            raise ConfigurationError("--interval says how often to look with --watch; add --watch.")


def run(arguments: StatusArguments, printer: "Printer", sleep: Callable[[float], None] = time.sleep) -> int:
    """Show a study, once or until its run has ended; returns the exit code.

    Raises:
        StudyError: There is no such study, or it cannot be read.
    """
    from heretic.interface.status_lines import status_rows
    from heretic.search.status import StudyReader

    study = study_of_a_run(arguments.storage, arguments.study_name, arguments.config, os.environ, Path.cwd())
    with StudyReader(*study) as reader:
        looks = _looks(reader, arguments, sleep)
        if arguments.json:
            for status in looks:
                printer.json(status.to_json())
        elif arguments.watch:
            printer.pages(map(status_rows, looks))
        else:
            printer.rows(status_rows(next(looks)))
    return 0


def _looks(
    reader: "StudyReader", arguments: StatusArguments, sleep: Callable[[float], None]
) -> Iterator["StudyStatus"]:
    """One look after the other, the last when the run has ended."""
    while True:
        status = reader.read()
        yield status
        if not arguments.watch or not status.is_running:
            return
        sleep(_USUAL_SECONDS if arguments.interval is None else arguments.interval)


COMMAND = Command(
    "status",
    StatusArguments,
    run,
    summary="Show a study, also while it runs elsewhere.",
    description="""\
Show how a study is, also while it runs in another terminal: trials by state,
the best and the front, rate, remaining time and memory. The study is only read.
""",
    examples={
        "": "The study that a run in this folder uses.",
        "--watch --json": "One JSON object after the other while it runs.",
    },
    exit_codes="0 done, 1 failed, 2 no such study or something given cannot be used, 130 interrupted.",
)
