"""``heretic studies``: what a database holds, and taking studies out of it or naming them anew."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional, switch
from heretic.common.errors import ConfigurationError, StudyError
from heretic.common.file_names import expanded
from heretic.config.study import named_study, study_of_a_run

if TYPE_CHECKING:
    from heretic.interface.printer import Printer
    from heretic.search.status import StudyStatus


@dataclass(frozen=True, slots=True)
class StudiesArguments:
    """What is asked for."""

    storage: str | None = option("URL", "Database of the studies. [what a run in this folder uses]")
    delete: str | None = option("NAME", "Delete this study, its trials and its kept directions.")
    rename: str | None = option("NAME", "Give this study another name.")
    to: str | None = option("NAME", "The other name.")
    yes: bool = switch("Delete without being asked.")
    json: bool = switch("Print one JSON object instead, for scripts.")
    file: str | None = positional("[FILE]")

    def __post_init__(self) -> None:
        if self.file is not None and self.storage is not None:
            raise ConfigurationError(f"--storage and {self.file} both name the database; leave one of them out.")
        if self.delete is not None and self.rename is not None:
            raise ConfigurationError("A study is deleted or renamed; leave --delete or --rename out.")
        if (self.rename is None) != (self.to is None):
            raise ConfigurationError("--rename NAME and --to NAME go together; name the study and its new name.")
        if self.yes and self.delete is None:
            raise ConfigurationError("--yes says that a study may be deleted; add --delete NAME.")
        named_study(self.storage, self.to)


def run(arguments: StudiesArguments, printer: "Printer") -> int:
    """List, delete or rename; returns the exit code.

    Raises:
        StudyError: There is no such database or study, a run works on it, or the new name is taken.
        SelectionError: Nobody can be asked whether a study may be deleted.
    """
    from heretic.interface.status_lines import studies_rows
    from heretic.search.claim import check_study_file

    url = _database(arguments)
    check_study_file(url)
    if arguments.delete is not None:
        return _delete(url, arguments.delete, arguments.yes, printer)
    if arguments.rename is not None and arguments.to is not None:
        return _rename(url, arguments.rename, arguments.to, printer)
    studies, unread = _looks(url)
    if arguments.json:
        printer.json({"studies": [study.to_json() for study in studies], "not_read": unread})
    else:
        printer.rows(studies_rows(studies, unread))
    return 0


def _database(arguments: StudiesArguments) -> str:
    from heretic.search.storage import study_in

    if arguments.file is not None:
        return study_in(expanded(arguments.file))[0]
    return study_of_a_run(arguments.storage, None, None, os.environ, Path.cwd())[0]


def _looks(url: str) -> tuple[list["StudyStatus"], list[str]]:
    """Every study of a database as it is now, in the order in which they were made, and why some cannot be read."""
    from heretic.search.status import StudyReader
    from heretic.search.told import studies_of

    looks, unread = [], []
    with StudyReader(url, "", or_running=True) as reader:
        names = list(studies_of(reader.storage))
    for name in names:
        try:
            with StudyReader(url, name) as reader:
                looks.append(reader.read())
        except StudyError as error:
            unread.append(str(error))
    return looks, unread


def _taken(url: str, name: str, stack: ExitStack) -> None:
    """Have a study to oneself until the stack is closed.

    Raises:
        StudyError: There is none of that name, or a run works on it.
    """
    from heretic.search.claim import Turn, claimed
    from heretic.search.status import StudyReader
    from heretic.search.storage import check_idle

    reader = stack.enter_context(StudyReader(url, name))
    stack.enter_context(claimed(url, name))
    stack.enter_context(Turn(url, patient=False)).take(name)
    check_idle(reader.attributes(), url, name)


def _delete(url: str, name: str, sure: bool, printer: "Printer") -> int:
    import optuna

    from heretic.interface.asking import agrees
    from heretic.search.status import StudyReader
    from heretic.search.storage import connected, shown_url, storage_errors

    with StudyReader(url, name) as reader:
        finished = reader.read().finished
    question = f"Delete the study {name} with {finished} finished trials from {shown_url(url)}?"
    if not sure and not agrees(question, "Add --yes to delete it without being asked."):
        printer.line("Nothing was deleted.")
        return 0
    with ExitStack() as stack:
        _taken(url, name, stack)
        with storage_errors(url):
            optuna.delete_study(study_name=name, storage=connected(url))
    printer.line(f"The study {name} is gone from {shown_url(url)}.")
    return 0


def _rename(url: str, name: str, new_name: str, printer: "Printer") -> int:
    from optuna.exceptions import DuplicatedStudyError

    from heretic.search.claim import claimed
    from heretic.search.private_api import rename_study
    from heretic.search.storage import connected, shown_url, storage_errors

    with ExitStack() as stack:
        _taken(url, name, stack)
        stack.enter_context(claimed(url, new_name))
        try:
            with storage_errors(url):
                rename_study(connected(url), name, new_name)
        except DuplicatedStudyError as error:
            message = f"There is a study {new_name} in {shown_url(url)} already; choose another name."
            raise StudyError(message) from error
    printer.line(f"The study {name} is called {new_name} now; go on with it by --study-name {new_name}.")
    return 0


COMMAND = Command(
    "studies",
    StudiesArguments,
    run,
    summary="List the studies of a database, delete or rename one.",
    description="""\
List the studies of a database with their models, trials and best results, or
delete or rename one of them; a study that a run works on is left alone. FILE
is a study file, or a folder in which heretic was run; without it, the database
that a run in the present folder uses.
""",
    examples={
        "": "The studies of the present folder.",
        "study.db --rename demo --to first": "Another name, to go on with --study-name first.",
        "--delete first": "Delete one, after a question.",
    },
    exit_codes="0 done, 1 failed, 2 no such study or something given cannot be used, 130 interrupted.",
)
