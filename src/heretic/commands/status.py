"""``heretic status``: a study as it is now, from another terminal than the run's."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, number, option, positional, switch
from heretic.common.errors import ConfigurationError, StudyError
from heretic.common.file_names import expanded
from heretic.config.study import study_of_a_run

if TYPE_CHECKING:
    from heretic.interface.printer import Printer
    from heretic.search.status import StudyStatus

_SHORTEST, _LONGEST = 0.2, 86_400.0
_USUAL_SECONDS = 5.0


_INTERVAL = number(f"a number of seconds from {_SHORTEST:g} to {_LONGEST:.0f}", _SHORTEST, _LONGEST)


@dataclass(frozen=True, slots=True)
class StatusArguments:
    """What is asked for."""

    storage: str | None = option("URL", "Database of the study.")
    study_name: str | None = option("NAME", "Name of the study in the database. [the one that runs, or the latest]")
    config: str | None = option(
        "PATH",
        "Configuration file to take these two from. As in a run, the command line wins over HERETIC_STORAGE and "
        "HERETIC_STUDY_NAME, and these over the file. [config.toml where there is one]",
    )
    json: bool = switch("Print one JSON object on a line instead, for scripts; README says which keys it has.")
    watch: bool = switch("Go on until Ctrl+C, or until the run has ended.")
    interval: float | None = option("SECONDS", f"How often to look with --watch. [{_USUAL_SECONDS:g}]", read=_INTERVAL)
    path: str | None = positional("[PATH]")

    def __post_init__(self) -> None:
        if self.interval is not None and not self.watch:
            raise ConfigurationError("--interval says how often to look with --watch; add --watch.")
        if self.path is not None and self.storage is not None:
            raise ConfigurationError(
                f"--storage and {self.path} both name the study's database; leave one of them out."
            )


def run(arguments: StatusArguments, printer: "Printer", sleep: Callable[[float], None] = time.sleep) -> int:
    """Show a study, once or until its run has ended; returns the exit code.

    Raises:
        StudyError: There is no such study, or it cannot be read.
    """
    from heretic.interface.status_lines import status_rows

    with ExitStack() as readers:
        looks = _looks(readers, arguments, sleep)
        if arguments.json:
            for status in looks:
                printer.json(status.to_json())
        elif arguments.watch:
            printer.pages(map(status_rows, looks))
        else:
            printer.rows(status_rows(next(looks)))
    return 0


def _study(arguments: StatusArguments) -> tuple[str, str | None]:
    """Storage and name of the study that is looked at first."""
    from heretic.search.storage import study_in

    given = arguments.storage, arguments.study_name, arguments.config
    if arguments.path is None:
        return study_of_a_run(*given, os.environ, Path.cwd())
    path = expanded(arguments.path)
    if not os.path.exists(path):
        raise StudyError(f"There is no study file or folder {arguments.path}; check the path.")
    return study_in(path, *given)


def _looks(readers: ExitStack, arguments: StatusArguments, sleep: Callable[[float], None]) -> Iterator["StudyStatus"]:
    """One look after the other, the last when the run has ended; one that prepares need not have made its study yet."""
    from heretic.search.status import StudyReader, preparing_status

    url, name = _study(arguments)
    reader: StudyReader | None = None
    while True:
        status = preparing_status(url, name)
        try:
            reader = reader or readers.enter_context(StudyReader(url, name, or_running=arguments.study_name is None))
        except StudyError:
            if status is None:
                raise
        if reader is not None:
            seen = reader.read()
            other = status is not None and status.name != seen.name
            # One that is being prepared goes before another that does not run.
            status = status if other and not seen.is_running else seen.or_newer(status)
        if status is not None:
            yield status
        if not arguments.watch or status is None or not status.is_running:
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

PATH is a study file, or a folder in which heretic was run; without it, the
present folder. Where a file holds several studies, the one that runs is shown
and all are listed.
""",
    examples={
        "": "The study that a run in this folder uses.",
        "study.db": "The study in this file, or, of several, the one that runs.",
        "--watch --json": "One JSON object after the other while it runs.",
    },
    exit_codes="0 done, 1 failed, 2 no such study or something given cannot be used, 130 interrupted.",
)
