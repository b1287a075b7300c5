"""The stored study: opened, checked against what this run would measure, never continued silently with other inputs."""

import hashlib
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError

from heretic.common.errors import StudyError, VersionSkewError, first_line
from heretic.common.file_names import expanded
from heretic.common.redaction import mask_secrets, remember_password, without_password, without_secrets
from heretic.results import reading
from heretic.results.objective import BOTH_NUMBERS, Objective
from heretic.results.trial import TrialRecord, TrialState
from heretic.results.words import plural
from heretic.search.private_api import (
    enqueued_parameters,
    set_study_attribute,
    study_attributes,
    unfinished_trial,
)
from heretic.search.pulse import PULSE_ATTRIBUTE, Pulse, still_works

RECORD_ATTRIBUTE = "record"
IDENTITY_ATTRIBUTE = "identity"
DIRECTIONS_ATTRIBUTE = "directions"
"""Attribute of a study that keeps directions, see search.stored_directions."""
RETRIED_ATTRIBUTE = "retried"
"""User attribute of a trial that repeats one whose run died: that one's number."""

NAMED = 5
"""Trials that a sentence names."""
LOCK_WAIT_SECONDS = 30
"""How long a SQLite file may be locked: other runs that use it write for moments, but on a slow disk for long ones."""

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


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for other databases, and for one in memory or under a URI of its own."""
    parsed = make_url(url)
    database = parsed.database
    if parsed.get_backend_name() != "sqlite" or not database or database == ":memory:" or database.startswith("file:"):
        return None
    return expanded(database)


def claim_file(url: str, name: str) -> Path | None:
    """Beside a SQLite file what a run locks that works on the study, and tells of itself in before that is opened."""
    file = sqlite_file(url)
    return (
        None if file is None else file.with_name(f".{file.name}.{hashlib.sha256(name.encode()).hexdigest()[:8]}.lock")
    )


def _connectable(url: str) -> str:
    """A storage URL with the ``~`` of its file replaced, which no shell has done inside it."""
    file, parsed = sqlite_file(url), make_url(url)
    if file is None or str(file) == parsed.database:
        return url
    return parsed.set(database=str(file)).render_as_string(hide_password=False)


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite file."""
    return URL.create("sqlite", database=str(file.absolute())).render_as_string(hide_password=False)


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
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise StudyError(
            f"Another run works on the same study in {shown_url(url)} and ended this run's trial; let only one run "
            "at a time use a study, or name another --study-name."
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


def connected(url: str) -> optuna.storages.RDBStorage:
    """The storage; its tables are created where they are missing. Raises what the driver does, see storage_errors."""
    options, url = _engine_options(url), _connectable(url)
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except (IntegrityError, ProgrammingError):
        # Two runs that begin on a new database create its tables at once, and the server lets one of them.
        return optuna.storages.RDBStorage(url, engine_kwargs=options)


def open_study(url: str, name: str, identity: Identity, objective: Objective = BOTH_NUMBERS) -> optuna.Study:
    """Create a study, which minimises `objective`, or resume the one of that name.

    Trials that an interrupted run left running are marked as failed, and their plans are tried again, once; those that
    had been measured by then are ended as they would have been.

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
            raise StudyConflict(
                f"The study {name} was made with another {', '.join(different)}; name another --study-name, or run "
                "with what it was made with."
            )
        elif stored != identity.aspects:
            # Of an earlier version: from here on it is compared in all aspects.
            set_study_attribute(study, IDENTITY_ATTRIBUTE, identity.aspects)
        check_idle(attributes, url, name)
        _move_attributes(study)
        for trial in study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
            _end_left_over(study, trial, objective)
        return study


def check_idle(attributes: Mapping[str, Any], url: str, name: str) -> None:
    """Refuse a study on a server that another run works on; one in a file is claimed by a lock, see search.claim.

    Raises:
        StudyError: Says which run.
    """
    pulse = None if sqlite_file(url) is not None else Pulse.from_json(attributes.get(PULSE_ATTRIBUTE))
    if pulse is not None and still_works(pulse, time.time()):
        raise StudyError(
            f"Another run (process {pulse.pid} on {pulse.host}) works on the study {name} in {shown_url(url)}; "
            "watch it with 'heretic status', wait until it is over, or name another --study-name."
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


def _end_left_over(study: optuna.Study, trial: optuna.trial.FrozenTrial, objective: Objective) -> None:
    """End a trial whose run died."""
    record = _read(trial) if RECORD_ATTRIBUTE in trial.user_attrs else None
    if record is not None and record.is_read:
        # Killed between the two writes of `tell`.
        tell(study, unfinished_trial(study, trial), record, objective)
        return
    try_again(study, trial)


def try_again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Fail a trial whose run died while it was measured, and enqueue it again, once: the run may have died of it."""
    study.tell(trial.number, state=OptunaState.FAIL)
    parameters = {**(enqueued_parameters(trial) or {}), **trial.params}
    if parameters and RETRIED_ATTRIBUTE not in trial.user_attrs:
        study.enqueue_trial(parameters, user_attrs={**trial.user_attrs, RETRIED_ATTRIBUTE: trial.number})


def _engine_options(url: str) -> dict[str, Any]:
    parsed = make_url(url)
    # The user's own ?timeout= would be overruled by ours.
    if parsed.get_backend_name() != "sqlite" or "timeout" in parsed.query:
        return {}
    return {"connect_args": {"timeout": LOCK_WAIT_SECONDS}}


def stored_records(study: optuna.Study) -> list[TrialRecord]:
    """Records of all finished trials, by number; see `records_of`."""
    return records_of(study.get_trials(deepcopy=False))


def records_of(trials: Iterable[optuna.trial.FrozenTrial]) -> list[TrialRecord]:
    """Records of those trials that are finished and have one.

    One that cannot be read, or measured something else than most, stands there as failed, with that as the reason.
    """
    records = [_read(trial) for trial in trials if trial.state.is_finished() and RECORD_ATTRIBUTE in trial.user_attrs]
    usual = Counter(_measured(record) for record in records if record.scores is not None).most_common(1)
    return [
        TrialRecord.unreadable(record.number, f"Trial {record.shown} measured other things than most of its study do.")
        if record.scores is not None and _measured(record) != usual[0][0]
        else record
        for record in records
    ]


def _read(trial: optuna.trial.FrozenTrial) -> TrialRecord:
    try:
        return TrialRecord.from_json(trial.user_attrs[RECORD_ATTRIBUTE], trial.number)
    except VersionSkewError as error:
        return TrialRecord.unreadable(trial.number, str(error))


def _measured(record: TrialRecord) -> tuple[tuple[str, str], ...]:
    """Names and units of what was measured."""
    return tuple((score.name, score.unit) for score in record.measured)


def unreadable_text(records: Iterable[TrialRecord]) -> str:
    """A sentence on the trials that could not be read; empty where all could."""
    missing = [record for record in records if not record.is_read]
    if not missing:
        return ""
    named = ", ".join(str(record.shown) for record in missing[:NAMED]) + (" and others" if missing[NAMED:] else "")
    counted = plural(len(missing), "stored trial")
    return f"{counted} ({named}) cannot be read and count as failed. {missing[0].reason}"


def tell(
    study: optuna.Study, trial: optuna.Trial, record: TrialRecord, objective: Objective = BOTH_NUMBERS
) -> TrialRecord:
    """Store a record and end its trial; returns what was stored.

    A record is stored before its trial is ended, so that a run that dies in between loses nothing. It is therefore
    looked at before: one whose numbers Optuna would refuse is stored as a failed one.

    A pruned one gets what was seen as an intermediate value, at the step that it reached: 0 where its divergence alone
    decided, else the number of answers known. The sampler ranks pruned trials by their last step, so those that came
    far are preferred.
    """
    try:
        values = (
            []
            if record.scores is None
            else [float(reading.number(value, "a value")) for value in objective.values(record.scores)]
        )
        if values and len(values) != objective.count:
            raise ValueError(f"{len(values)} values were measured, and the study minimises {objective.count}")
    except (ValueError, ArithmeticError) as error:
        record = replace(
            record, scores=None, state=TrialState.FAILED, reason=f"it cannot be told ({first_line(error)})"
        )
    # A reason may quote what a plug-in or a driver said.
    trial.set_user_attr(RECORD_ATTRIBUTE, without_secrets(record.to_json()))
    if record.scores is None:
        study.tell(trial, state=OptunaState.FAIL)
    elif record.state is TrialState.PRUNED:
        trial.report(values[0], step=sum(score.answers.answered or 0 for score in record.behaviors))
        study.tell(trial, state=OptunaState.PRUNED)
    else:
        study.tell(trial, values)
    return record
