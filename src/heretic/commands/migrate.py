"""``heretic migrate``: a study into another database, e.g. from a file to a server that many machines see."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heretic.commands.base import Command, option, positional
from heretic.common.errors import ConfigurationError, StudyError
from heretic.config.study import named_study, sqlite_file, study_of_a_run

if TYPE_CHECKING:
    import optuna

    from heretic.interface.printer import Printer
    from heretic.search.status import StudyReader


@dataclass(frozen=True, slots=True)
class MigrateArguments:
    """What is asked for."""

    urls: tuple[str, ...] = positional("SOURCE TARGET")
    study_name: str | None = option("NAME", "Name of the study in both. [the one that runs, or the latest]")

    def __post_init__(self) -> None:
        if len(self.urls) != 2:
            raise ConfigurationError(
                f"Two databases are needed, where the study is and where it is to be, but {len(self.urls)} are named; "
                "run 'heretic migrate --help' to see how it is used."
            )
        for url in self.urls:
            named_study(url, self.study_name)


def run(arguments: MigrateArguments, printer: "Printer") -> int:
    """Copy a study, compare the copy with it, and only then give the copy its name; returns the exit code.

    Raises:
        StudyError: There is no such study, a run works on it, the target has one of that name, or the copy differs.
    """
    from heretic.interface.status_lines import trials_rows
    from heretic.search.claim import Turn, check_study_file, claimed
    from heretic.search.status import StudyReader, usual_study
    from heretic.search.storage import check_idle, shown_url

    source, target = arguments.urls
    if source == target or (sqlite_file(source) is not None and _real(source) == _real(target)):
        raise ConfigurationError("Source and target are the same database; name two.")
    check_study_file(source)
    name = study_of_a_run(source, arguments.study_name, None, os.environ, Path.cwd())[1] or usual_study(source)
    with ExitStack() as stack:
        reader = stack.enter_context(StudyReader(source, name))
        for url in (source, target):
            stack.enter_context(claimed(url, name))
            stack.enter_context(Turn(url, patient=False)).take(name)
        check_study_file(target)
        check_idle(reader.attributes(), source, name)
        try:
            with printer.steps():
                failed = _copy(reader, target)
        except BaseException:
            printer.line(f"Nothing was changed in {shown_url(source)}; the same command begins the copy anew.")
            raise
    with StudyReader(target, name) as copy:
        status = copy.read()
    printer.row("Study", f"{name} in {status.storage}")
    printer.rows(trials_rows(status))
    if failed:
        printer.row("", f"{failed} of them ran when their run ended: failed in the copy, their plans are tried again")
    printer.line(f"The copy is as the original, which is left in {shown_url(source)}; go on with the other --storage.")
    return 0


def _real(url: str) -> str | None:
    file = sqlite_file(url)
    return None if file is None else os.path.realpath(file)


def _copy(reader: "StudyReader", target: str) -> int:
    """Copy a study under another name, compare, and rename; returns how many of its trials were running."""
    import optuna
    from optuna.trial import TrialState

    from heretic.observability.steps import step
    from heretic.search.private_api import rename_study
    from heretic.search.records import RECORD_ATTRIBUTE, try_again
    from heretic.search.storage import connected, shown_url, storage_errors

    with storage_errors(target):
        storage, unfinished = connected(target), f"{reader.name}.unfinished-copy"
        names = optuna.get_all_study_names(storage)
        taken = StudyError(
            f"There is a study {reader.name} in {shown_url(target)} already; name another database as the target."
        )
        if reader.name in names:
            raise taken
        if unfinished in names:
            # Left behind by a copy that was interrupted.
            optuna.delete_study(study_name=unfinished, storage=storage)
        with step("copying", 0):
            optuna.copy_study(
                from_study_name=reader.name,
                from_storage=reader.storage,
                to_storage=storage,
                to_study_name=unfinished,
            )
        with step("comparing", 0):
            original, copy = (
                _facts(study) for study in (reader.study, optuna.load_study(study_name=unfinished, storage=storage))
            )
        different = [what for what, fact in original.items() if copy[what] != fact]
        if different:
            raise StudyError(
                f"The copy in {shown_url(target)} differs in its {', '.join(different)}, so it was not given its name; "
                "check that database, or name another one."
            )
        study = optuna.load_study(study_name=unfinished, storage=storage)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        # One that had been measured is told by the next run, see open_study.
        interrupted = [trial for trial in running if RECORD_ATTRIBUTE not in trial.user_attrs]
        for trial in interrupted:
            try_again(study, trial)
        try:
            rename_study(storage, unfinished, reader.name)
        except optuna.exceptions.DuplicatedStudyError as error:
            raise taken from error
        return len(interrupted)


def _facts(study: "optuna.Study") -> dict[str, Any]:
    """What a copy has to have in common with the original."""
    from heretic.results.front import pareto_front
    from heretic.search.private_api import study_attributes
    from heretic.search.records import records_of
    from heretic.search.storage import DIRECTIONS_ATTRIBUTE, IDENTITY_ATTRIBUTE

    trials, attributes = study.get_trials(deepcopy=False), study_attributes(study)
    return {
        "number of trials": len(trials),
        "identity": attributes.get(IDENTITY_ATTRIBUTE),
        "kept directions": {
            name: value for name, value in attributes.items() if name.partition(".")[0] == DIRECTIONS_ATTRIBUTE
        },
        "attributes": attributes,
        "trials": [
            (
                trial.number,
                trial.state,
                trial.values,
                trial.params,
                trial.distributions,
                trial.user_attrs,
                trial.system_attrs,
                trial.intermediate_values,
            )
            for trial in trials
        ],
        "front": [(record.number, record.values) for record in pareto_front(records_of(trials))],
    }


COMMAND = Command(
    "migrate",
    MigrateArguments,
    run,
    summary="Copy a study into another database.",
    description="""\
Copy a study with its trials and kept directions into another database, e.g.
from a file to a server that several machines see, or back. The copy is compared
with the original before it gets its name. The original is only read; a study
that a run works on is refused. SOURCE and TARGET are database URLs.
""",
    examples={
        "sqlite:///heretic_study.db postgresql+psycopg://me@host/db": "From a file to a server.",
        "postgresql+psycopg://me@host/db sqlite:///back.db": "And back.",
    },
    exit_codes="0 done, 1 failed, 2 no such study or something given cannot be used, 130 interrupted.",
)
