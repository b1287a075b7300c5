"""The stored study: opened, checked against what this run would measure, never continued silently with other inputs."""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from heretic.common.errors import StudyError, VersionSkewError, first_line
from heretic.common.redaction import mask_secrets, remember_password, without_password
from heretic.config.study import sqlite_file, study_of_a_run
from heretic.results import reading
from heretic.results.objective import BOTH_NUMBERS, Objective
from heretic.search.private_api import LastingStorage, set_study_attribute, study_attributes
from heretic.search.pulse import PULSE_ATTRIBUTE, Pulse, left_over, pulses_in, still_works
from heretic.search.records import end_left_over
from heretic.search.servers import engine_options, outlast_outages

IDENTITY_ATTRIBUTE = "identity"
EARLIER_NAME = "heretic_study"
"""What every study was called that nobody named, until names were made of model and behaviour."""
DIRECTIONS_ATTRIBUTE = "directions"
"""Attribute of a study that keeps directions, see search.stored_directions."""

Aspects = Mapping[str, Mapping[str, Any]]
"""By aspect (model, way of measuring, ...) what distinguishes it, as plain JSON; what is as usual is left out."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a study measures, and how: what a stored one is compared by before it is continued.

    Attributes:
        aspects: What is stored.
        texts: The same as version 0.1.0 stored it, see `run.identity_0_1`.
        newer: Aspects in which something is unusual that version 0.1.0 did not know, so that its texts do not say it.
        added: Aspects that are compared only where a stored identity has them: earlier versions stored none.
    """

    aspects: Aspects
    texts: Mapping[str, str] = field(default_factory=dict)
    newer: tuple[str, ...] = ()
    added: frozenset[str] = frozenset()

    def differences(self, stored: Any) -> list[str]:
        """Aspects in which a stored identity, in today's form or in that of version 0.1.0, is another one.

        Raises:
            VersionSkewError: It is in neither form.
        """
        try:
            stored = {reading.text(name, "an aspect"): part for name, part in reading.table(stored, "it").items()}
        except ValueError as error:
            raise VersionSkewError(
                f"The study's identity is of a newer or older Heretic ({first_line(error)}); name another --study-name."
            ) from error
        if not any(isinstance(value, str) for value in stored.values()):
            names = dict.fromkeys(name for name in (*stored, *self.aspects) if name in stored or name not in self.added)
            return [name for name in names if stored.get(name, {}) != self.aspects.get(name, {})]
        names = dict.fromkeys((*stored, *self.texts, *self.newer))
        return [name for name in names if name in self.newer or stored.get(name) != self.texts.get(name)]


class StudyConflict(StudyError):
    """A study of that name exists and measured something else."""


def shown_url(url: str) -> str:
    """A storage URL without its password, and without its options, which may hold one.

    Raises:
        StudyError: It is no database URL.
    """
    try:
        return make_url(without_password(url)).set(query={}).render_as_string(hide_password=True)
    except (ArgumentError, ValueError) as error:
        raise StudyError(
            "The study storage is no database URL; name one with --storage, e.g. sqlite:///heretic_study.db."
        ) from error


def claim_file(url: str, name: str) -> Path | None:
    """Beside a SQLite file what a run locks that works on the study, and tells of itself in before that is opened."""
    file = sqlite_file(url)
    return (
        None if file is None else file.with_name(f".{file.name}.{hashlib.sha256(name.encode()).hexdigest()[:8]}.lock")
    )


def claim_files(file: Path) -> list[Path]:
    """All of these that are beside a SQLite file."""
    return sorted(file.parent.glob(f".{escape(file.name)}.*.lock"))


def _connectable(url: str) -> str:
    """A storage URL with the ``~`` of its file replaced, which no shell has done inside it."""
    file, parsed = sqlite_file(url), make_url(url)
    if file is None or str(file) == parsed.database:
        return url
    return parsed.set(database=str(file)).render_as_string(hide_password=False)


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite file."""
    return URL.create("sqlite", database=str(file.absolute())).render_as_string(hide_password=False)


def study_in(
    path: Path, storage: str | None = None, study_name: str | None = None, config: str | None = None
) -> tuple[str, str | None]:
    """Storage and name of the study that a path stands for: a study file, or a folder in which heretic was run.

    The name is None where nothing says it.

    Args:
        path: Where.
        storage: What the command line says, if anything.
        study_name: The same.
        config: The same of the configuration file.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    is_folder = path.is_dir()
    url, name = study_of_a_run(storage, study_name, config, os.environ, path if is_folder else Path.cwd())
    if not is_folder:
        return sqlite_url(path), name
    # As a run in that folder reads its settings.
    file = sqlite_file(url)
    return url if file is None else sqlite_url(path / file), name


_PROBLEMS: Mapping[tuple[str, ...], tuple[str, str]] = {
    ("locked",): ("is locked by another process", "wait for that run or name another --storage"),
    ("password authentication failed", "no password supplied", "access denied"): (
        "did not accept the user or the password",
        "check the address that --storage names",
    ),
    ("connection refused", "could not connect", "can't connect", "could not translate host", "failed to resolve"): (
        "cannot be reached",
        "check that the server runs and the address that --storage names",
    ),
    ("server closed the connection", "terminating connection", "lost connection", "connection is lost"): (
        "has ended the connection",
        "run the same command again once the server is back, which goes on with the study",
    ),
    ("not a database", "malformed", "no such table", "no such column", "has no column"): (
        "is damaged or no study file",
        "move it away or name another --storage",
    ),
    ("undefinedtable", 'relation "studies" does not exist', 'relation "version_info" does not exist'): (
        "holds no study yet",
        "run 'heretic MODEL' with this --storage first, or name another one",
    ),
    ("readonly", "read-only", "unable to open"): (
        "cannot be written",
        "check the folder and its permissions or name another --storage",
    ),
    ("disk is full",): ("cannot be written because the disk is full", "free some space and run the command again"),
    ("disk i/o", "locking protocol"): (
        "cannot be read or written because its disk or file system reports a fault",
        "check the disk, or name a --storage on a local one, where files can be locked",
    ),
}
"""What storages say, in lower case -> what is wrong and what to do, the first that fits."""


# What it says is said by events; its own lines would garble the progress bar.
optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what the storage raises into one sentence with the next step.

    Raises:
        StudyError: The storage failed in the with-block.
    """
    shown = shown_url(url)
    # A driver may repeat its whole address, in whatever words.
    remember_password(url)
    try:
        yield
    except ImportError as error:
        detail = mask_secrets(str(error.__cause__ or error))
        raise StudyError(
            f"The study storage {shown} needs a database driver ({detail}); install it or name another --storage."
        ) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise StudyError(
            f"The study storage {shown} holds values that cannot be read ({first_line(error)}), written by a newer or "
            "older Heretic or damaged; move it away or name another --storage."
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        # Optuna's own words only say that something is wrong.
        said = error.__cause__ or error
        text = f"{error} {error.__cause__ or ''}".lower()
        problem, step = next(
            (told for phrases, told in _PROBLEMS.items() if any(phrase in text for phrase in phrases)),
            (f"failed ({mask_secrets(first_line(said))})", "check it or name another --storage"),
        )
        raise StudyError(f"The study storage {shown} {problem}; {step}.") from error


def connected(url: str) -> LastingStorage:
    """The storage; its tables are created where they are missing. Raises what the driver does, see storage_errors."""
    options, url = engine_options(url), _connectable(url)
    try:
        storage = LastingStorage(url, engine_kwargs=options)
    except (IntegrityError, ProgrammingError):
        # Two runs that begin on a new database create its tables at once, and the server lets one of them.
        storage = LastingStorage(url, engine_kwargs=options)
    outlast_outages(storage.engine, reached=True)
    return storage


def open_study(
    url: str, name: str, identity: Identity, objective: Objective = BOTH_NUMBERS, join: bool = False
) -> optuna.Study:
    """Create a study, which minimises `objective`, or resume the one of that name.

    Trials that an interrupted run left running are marked as failed, and their plans are tried again, once; those that
    had been measured by then are ended as they would have been.

    Args:
        url: The storage.
        name: The study's.
        identity: What this run measures.
        objective: What is minimised.
        join: Whether others may work on it; their trials are left to them, and those of runs that may only be silent to
            whoever has watched them, see search.workers.

    Raises:
        StudyConflict: The stored study has another identity; the message says in which aspects.
        StudyError: The storage cannot be opened, or another run works on the study.
    """
    with storage_errors(url):
        storage = connected(url)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["minimize"] * objective.count,
            load_if_exists=True,
        )
        attributes = study_attributes(study)
        stored = attributes.get(IDENTITY_ATTRIBUTE)
        if stored is None:
            if study.trials or study.directions != [StudyDirection.MINIMIZE] * objective.count:
                raise StudyConflict(
                    f"The study {name} in {shown_url(url)} was not made by Heretic; name another --study-name."
                )
            set_study_attribute(study, IDENTITY_ATTRIBUTE, identity.aspects)
            _name_values(study, objective)
        elif different := identity.differences(stored):
            raise StudyConflict(conflict_text(name, different))
        elif stored != identity.aspects:
            # Of an earlier version: from here on it is compared in all aspects.
            set_study_attribute(study, IDENTITY_ATTRIBUTE, identity.aspects)
        # A study in a file is claimed by a lock before, see search.claim.
        pulses = {} if sqlite_file(url) is not None else pulses_in(attributes)
        if not join:
            check_idle(attributes, url, name)
        _move_attributes(study)
        running = study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,))
        for trial in running:
            if not join or left_over(trial.number, pulses.values(), lambda _pulse: False):
                end_left_over(study, trial, objective)
        _forget(study, pulses, {trial.number for trial in running})
        return study


def conflict_text(name: str, different: Sequence[str]) -> str:
    """Says in which aspects a study was made otherwise."""
    return (
        f"The study {name} was made with another {', '.join(different)}; name another --study-name, or run with what "
        "it was made with."
    )


def _forget(study: optuna.Study, pulses: Mapping[str, Pulse], running: Container[int]) -> None:
    """Take the pulses of workers away that are over and left nothing behind."""
    for name, pulse in pulses.items():
        if pulse.worker and not still_works(pulse, time.time()) and not any(map(running.__contains__, pulse.trials)):
            set_study_attribute(study, name, "")


def check_idle(attributes: Mapping[str, Any], url: str, name: str) -> None:
    """Refuse a study on a server that another run works on; one in a file is claimed by a lock, see search.claim.

    Raises:
        StudyError: Says which run.
    """
    if sqlite_file(url) is not None:
        return
    for pulse in pulses_in(attributes).values():
        if still_works(pulse, time.time()):
            raise StudyError(
                f"Another run (process {pulse.pid} on {pulse.host}) works on the study {name} in {shown_url(url)}; "
                "watch it with 'heretic status', wait until it is over, work on it too with --join, or name "
                "another --study-name."
            )


def _move_attributes(study: optuna.Study) -> None:
    """Store what version 0.1 did as today, and leave it nothing to read: it would go by a pulse that nobody renews."""
    stored = study_attributes(study)
    for name, value in study.user_attrs.items():
        if value and name.partition(".")[0] in (IDENTITY_ATTRIBUTE, PULSE_ATTRIBUTE, DIRECTIONS_ATTRIBUTE):
            set_study_attribute(study, name, stored[name])
            study.set_user_attr(name, "")


def _name_values(study: optuna.Study, objective: Objective) -> None:
    """Let programs that show any study, such as optuna-dashboard, say what its numbers are."""
    if objective.value_names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(objective.value_names)
