"""One run at a time has a study, whatever ends a run, and a damaged file is told from one that is merely in use."""

import errno
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from tests.unit.search.studies import IDENTITY, url_of

from heretic.common.errors import StudyError
from heretic.search import storage
from heretic.search.claim import DamagedStudyError, check_study_file, claimed
from heretic.search.private_api import set_study_attribute
from heretic.search.pulse import PULSE_ATTRIBUTE, Pulse, still_works
from heretic.search.storage import open_study

CLAIMING = """
import sys
from heretic.search.claim import claimed
with claimed(sys.argv[1], "mine"):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def claiming_process(url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIMING, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    return process


def test_another_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    with claiming_process(url) as other:
        with (
            pytest.raises(StudyError, match=r"Another run works on the study mine .*--study-name"),
            claimed(url, "mine"),
        ):
            pytest.fail("both have it")
        with claimed(url, "another"):
            pass
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    with claimed(url, "mine"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_claim_ends_with_the_block_also_where_that_fails(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), claimed(url, "mine"):
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../escape", "a/b", "nul\0", "x" * 400])
def test_a_study_name_does_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with claimed(url_of(folder / "study.db"), name):
        assert [entry.parent for entry in tmp_path.rglob("*.lock")] == [folder]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be written"), claimed(url_of(tmp_path / "gone" / "study.db"), "mine"):
        pytest.fail("claimed")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://somewhere/db"])
def test_what_is_in_no_file_has_no_lock(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_study_file(url)
    with claimed(url, "mine"), claimed(url, "mine"):
        assert list(tmp_path.iterdir()) == []


# Damaged files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a study of several pages."""
    path = tmp_path_factory.mktemp("study") / "study.db"
    study = open_study(url_of(path), "heretic", IDENTITY)
    for number in range(40):
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), [number, number])
    return path.read_bytes()


@pytest.fixture
def stored(content: bytes, tmp_path: Path) -> Path:
    """A study's file, alone in its folder."""
    path = tmp_path / "study.db"
    path.write_bytes(content)
    return path


def test_a_whole_file_and_a_missing_one_are_fine(stored: Path, content: bytes, tmp_path: Path) -> None:
    check_study_file(url_of(stored))
    check_study_file(url_of(tmp_path / "none.db"))
    assert stored.read_bytes() == content
    assert {entry.name for entry in tmp_path.iterdir()} == {"study.db"}


def overwrite(content: bytes) -> bytes:
    return content[:9000] + b"\xff" * 9000 + content[18000:]


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 2], overwrite, lambda _content: b"no database at all" * 100],
    ids=["truncated", "overwritten", "replaced"],
)
def test_a_damaged_file_is_named_and_left_as_it_is(stored: Path, damage) -> None:
    path = stored
    path.write_bytes(damage(path.read_bytes()))
    content = path.read_bytes()
    with pytest.raises(DamagedStudyError, match=r"study\.db is damaged \(.*study\.db\.damaged.*--storage") as caught:
        check_study_file(url_of(path))
    assert "\n" not in str(caught.value)
    assert caught.value.path == path
    assert path.read_bytes() == content


def test_a_locked_file_is_not_taken_for_a_damaged_one(stored: Path) -> None:
    path = stored
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        check_study_file(url_of(path))
    finally:
        connection.close()


# Studies on a server --------------------------------------------------------------------------------------------------


def pulse(**changes: object) -> Pulse:
    values: dict[str, object] = {
        "state": "searching",
        "host": "elsewhere",
        "pid": 1,
        "process_started": 0.0,
        "version": "0",
        "model": "x",
        "n_trials": 10,
        "started": 0.0,
        "updated": 1000.0,
        "seconds_per_trial": None,
        "batch_size": 1,
        "candidates": 4,
        "tokens_per_second": None,
        "out_of_memory": 0,
    }
    return Pulse(**{**values, **changes})  # type: ignore[arg-type]


def test_a_run_elsewhere_works_until_it_has_been_silent_for_long() -> None:
    assert not still_works(None, 0.0)
    assert still_works(pulse(), 1100.0)
    assert not still_works(pulse(), 1130.0)
    assert still_works(pulse(seconds_per_trial=60.0), 1900.0)
    assert not still_works(pulse(seconds_per_trial=60.0), 2000.0)
    assert not still_works(pulse(state="finished"), 1001.0)
    # Of this machine's processes it is known whether they run.
    assert not still_works(pulse(host=socket.gethostname(), pid=2**22 + 1), 1001.0)
    assert not still_works(pulse(host=socket.gethostname(), pid=os.getpid()), 1001.0)


def test_a_study_that_another_machine_works_on_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "sqlite_file", lambda _url: None)
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    running = study.ask()
    set_study_attribute(study, PULSE_ATTRIBUTE, pulse(updated=time.time()).to_json())
    with pytest.raises(StudyError, match=r"Another run .process 1 on elsewhere. works on the study heretic"):
        open_study(url, "heretic", IDENTITY)
    assert study.trials[running.number].state is optuna.trial.TrialState.RUNNING
    set_study_attribute(study, PULSE_ATTRIBUTE, pulse(updated=time.time() - 3600).to_json())
    open_study(url, "heretic", IDENTITY)
    assert study.trials[running.number].state is optuna.trial.TrialState.FAIL


@pytest.mark.skipif(os.name == "nt", reason="Windows has other locks")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    import fcntl

    def flock(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    expected = f"without locks .{os.strerror(number)}.*--storage"
    with pytest.raises(StudyError, match=expected), claimed(url_of(tmp_path / "study.db"), "mine"):
        pytest.fail("claimed")
    assert list(tmp_path.iterdir()) == []
