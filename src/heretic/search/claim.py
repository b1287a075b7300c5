"""Only one run works on a study at a time: two would end each other's trials and try the same plans.

A study in a SQLite file is claimed by a lock of the operating system beside it, which ends with the process, however
that ends. On a database server whoever works on a study says so in the study itself (`search.pulse`). There several
runs may join in, and take turns (`Turn`) with what only one at a time may do: opening the study and asking for trials.
"""

import hashlib
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from glob import escape
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, text

from heretic.common.errors import StudyError
from heretic.common.file_names import time_stamped
from heretic.common.file_systems import exclusive, missing_locks
from heretic.config.checks import can_be_joined
from heretic.config.study import sqlite_file
from heretic.observability.events import Warned, emit
from heretic.observability.steps import step
from heretic.search.servers import begun_again, engine_options, outlast_outages, was_cut
from heretic.search.storage import claim_file, claim_files, shown_url, storage_errors

TURN_SECONDS = 0.1
"""How often it is looked whether it is one's turn."""

ASKING_SECONDS = 5.0
"""A turn that lasts longer is no asking for trials, which whoever reads the study can see, but its preparation."""

_DAMAGED = ".damaged"

_WITHOUT_LIMITS = text(
    "SELECT set_config(name, '0', true) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)
"""Servers may end transactions that last, as that of the run that prepares a study does; not all know both limits."""


class DamagedStudyError(StudyError):
    """A study file that SQLite cannot read any more.

    Attributes:
        path: The file.
    """

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


@contextmanager
def claimed(url: str, name: str) -> Iterator[None]:
    """Have a study to oneself for as long as the with-block lasts; does nothing where it is in no local file.

    Raises:
        StudyError: Another run has it, or nothing can be written or locked beside its file.
    """
    path = claim_file(url, name)
    if path is None:
        yield
        return
    try:
        reason = missing_locks(path.parent)
        if reason is None:
            path.touch()
    except OSError as error:
        raise StudyError(
            f"The study storage {shown_url(url)} cannot be written ({error.strerror}); check the folder and its "
            "permissions or name another --storage."
        ) from error
    if reason is not None:
        raise StudyError(
            f"The study storage {shown_url(url)} is on a file system without locks ({reason}), on which two runs could "
            "damage it; name a file on another disk with --storage, e.g. sqlite:////tmp/heretic_study.db."
        )
    taken = StudyError(
        f"Another run works on the study {name} in {shown_url(url)}; watch it with 'heretic status', wait until it "
        "is over, or name another --study-name."
    )
    with exclusive(path, taken):
        yield


@contextmanager
def all_claimed(file: Path) -> Iterator[None]:
    """Have all studies of a SQLite file to oneself in the with-block.

    Raises:
        StudyError: A run has one of them.
    """
    taken = StudyError(f"A run works on {file.name}; wait until it is over, or end it with Ctrl+C first.")
    with ExitStack() as claims:
        for path in claim_files(file):
            claims.enter_context(exclusive(path, taken))
        yield


def set_aside_name(file: Path) -> str:
    """What a damaged study file is called from now on."""
    return time_stamped(f"{file.name}{_DAMAGED}")


def set_aside_files(file: Path) -> list[Path]:
    """What was set aside of it before."""
    return sorted(file.parent.glob(f"{escape(file.name)}{_DAMAGED}*"))


class Turn:
    """An advisory lock of a PostgreSQL server that one worker of a study has at a time; ends with its connection.

    It belongs to an open transaction, which holds nothing else, and not to a session: behind a pooler such as PgBouncer
    a session's lock would be taken in one connection and given back in another.

    Does nothing where a study is claimed by a file, and on servers without such locks, where nobody can join.
    """

    def __init__(self, url: str, patient: bool) -> None:
        """Take none yet.

        Args:
            url: The storage.
            patient: Whether to wait for a run that prepares the study, when it is opened.
        """
        self._url, self._patient = url, patient
        self._engine = create_engine(url, **engine_options(url)) if can_be_joined(url) else None
        if self._engine is not None:
            outlast_outages(self._engine)
        self._connection: Connection | None = None
        self._name = ""

    @property
    def is_needed(self) -> bool:
        """Whether others may work on the study."""
        return self._engine is not None

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.give()

    def take(self, name: str) -> None:
        """Have the turn to open a study; stays with who has it.

        Raises:
            StudyError: Somebody else has it and this one is not patient, or the storage failed.
        """
        if self._engine is None or (self._connection is not None and self._name == name):
            return
        self.give()
        with storage_errors(self._url):
            if not self._patient:
                if not self._wait(name, self._engine, ASKING_SECONDS):
                    raise StudyError(
                        f"Another run works on the study {name} in {shown_url(self._url)}, or is about to; watch it "
                        "with 'heretic status', wait until it is over, work on it too with --join, or name "
                        "another --study-name."
                    )
            elif not self._got(name, self._engine):
                with step("waiting for the run that prepares the study", 0):
                    self._wait(name, self._engine)
            if self._connection is not None:
                self._connection.execute(_WITHOUT_LIMITS)

    def give(self) -> None:
        """Let the next one have it; harmless without it.

        Raises:
            StudyError: The server had ended the connection meanwhile, so that another may have had the turn as well.
        """
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with storage_errors(self._url), closing(connection):
                connection.commit()

    @contextmanager
    def taken(self, name: str) -> Iterator[None]:
        """Have the turn for the with-block, waiting for it; raises what the storage does.

        Where the server ends it meanwhile, that is said: another may have asked for trials at the same time, so that
        all together measure a batch more than they were to.
        """
        if self._engine is not None:
            self._wait(name, self._engine)
        try:
            yield
        finally:
            try:
                self.give()
            except StudyError as error:
                if error.__cause__ is None or not was_cut(error.__cause__):
                    raise
                emit(Warned("The server ended this worker's turn; the study may end up with a few trials too many."))

    def _wait(self, name: str, engine: Engine, most: float = math.inf) -> bool:
        """Wait for the turn for at most so many seconds; whether one has it."""
        ends = time.monotonic() + most
        while not self._got(name, engine):
            if time.monotonic() > ends:
                return False
            time.sleep(TURN_SECONDS)
        return True

    def _got(self, name: str, engine: Engine) -> bool:
        return begun_again(lambda _again: self._tried(name, engine))

    def _tried(self, name: str, engine: Engine) -> bool:
        connection = engine.connect()
        number = int.from_bytes(hashlib.sha256(f"heretic {name}".encode()).digest()[:8], "big", signed=True)
        # Held until the transaction ends, by whatever it ends.
        if connection.execute(text("SELECT pg_try_advisory_xact_lock(:number)"), {"number": number}).scalar():
            self._connection, self._name = connection, name
            return True
        connection.close()
        return False


def check_study_file(url: str) -> None:
    """Refuse a damaged SQLite file before minutes are spent on a model; changes nothing.

    Raises:
        DamagedStudyError: It is no database, or its pages contradict each other.
        StudyError: It cannot be read.
    """
    file = sqlite_file(url)
    if file is None or not file.exists():
        return
    try:
        # "rw" can finish what a killed run left half written, which "ro" cannot.
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=1)) as connection:
            findings = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    except sqlite3.OperationalError:
        # Locked, or without permission to write: opening the study says so.
        return
    except sqlite3.DatabaseError as error:
        findings = [str(error)]
    if findings != ["ok"]:
        # What SQLite finds may stand below a heading.
        finding = findings[0].splitlines()[-1] if findings else "it is empty"
        raise DamagedStudyError(
            f"The study file {file} is damaged ({finding}); keep it under another "
            f"name, e.g. {file.name}{_DAMAGED}, to start a new study, or name another --storage.",
            file,
        )
