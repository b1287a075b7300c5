"""Only one run works on a study at a time: two would end each other's trials and try the same plans.

A study in a SQLite file is claimed by a lock of the operating system beside it, which ends with the process, however
that ends. On a database server the run that works on a study says so in the study itself (`search.pulse`).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from heretic.common.errors import StudyError
from heretic.common.file_systems import exclusive, missing_locks
from heretic.search.storage import claim_file, shown_url, sqlite_file


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
        aside = file.with_name(f"{file.name}.damaged")
        raise DamagedStudyError(
            f"The study file {file} is damaged ({finding}); keep it under another "
            f"name, e.g. {aside.name}, to start a new study, or name another --storage.",
            file,
        )
