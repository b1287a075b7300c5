"""A stored study is resumed only by the run it belongs to, and every fault of the storage is one clear sentence."""

import math
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from sqlalchemy import Engine, event
from sqlalchemy.exc import IntegrityError, OperationalError
from tests.unit.directions.direction_sets import random_set
from tests.unit.search.studies import IDENTITY, PLAN, SPACE, dominated, failed, record, several, url_of

from heretic.common.errors import StudyError
from heretic.results.objective import Objective
from heretic.results.trial import TrialRecord, TrialState
from heretic.search.private_api import LastingStorage, study_attributes
from heretic.search.pulse import PULSE_ATTRIBUTE
from heretic.search.records import RECORD_ATTRIBUTE, RETRIED_ATTRIBUTE, stored_records, tell, unreadable_text
from heretic.search.seeding import SOURCE_ATTRIBUTE, enqueue_plan
from heretic.search.servers import LOCK_WAIT_SECONDS
from heretic.search.status import StudyReader
from heretic.search.storage import (
    IDENTITY_ATTRIBUTE,
    Identity,
    StudyConflict,
    open_study,
    storage_errors,
)
from heretic.search.stored_directions import StoredDirections, decoded, encoded, stored_attributes


def add(study: optuna.Study, entry: TrialRecord) -> None:
    trial = study.ask()
    SPACE.suggest(trial)
    tell(study, trial, entry)


def test_a_new_study_minimises_two_numbers(tmp_path: Path) -> None:
    study = open_study(url_of(tmp_path / "new.db"), "heretic", IDENTITY)
    assert study.directions == [optuna.study.StudyDirection.MINIMIZE] * 2
    assert stored_records(study) == []


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        (Objective(behaviors=2, names=("refusal", "verbosity")), ["refusal", "verbosity", "KL divergence"]),
        (Objective(0.5, names=("refusal",)), ["refusal + KL divergence"]),
        (Objective(), None),
    ],
)
def test_other_programs_are_told_what_the_numbers_are(tmp_path: Path, objective: Objective, names: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = open_study(url_of(tmp_path / "new.db"), "heretic", IDENTITY, objective)
    assert study.metric_names == names


@pytest.mark.versions
def test_records_come_back_equal_from_the_file(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    entries = [
        record(0, 12, 0.1234567890123),
        failed(1, "memory ran out; a smaller --batch-size needs less"),
        record(2, 0, 9),
        dominated(3, 4, 0.75),
    ]
    for entry in entries:
        add(study, entry)
    again = open_study(url, "heretic", Identity(dict(reversed(IDENTITY.aspects.items()))))
    assert stored_records(again) == entries
    ended = [OptunaState.COMPLETE, OptunaState.FAIL, OptunaState.COMPLETE, OptunaState.COMPLETE]
    assert [trial.state for trial in again.trials] == ended
    assert again.trials[3].values == [4.0, 0.75]
    assert again.trials[0].values == [12.0, 0.1234567890123]


@pytest.mark.parametrize(
    "change", [{"model": {"parameters": "other"}}, {"extra": {"x": 1}}, {"model": {}, "search space": {"space": "v0"}}]
)
def test_a_conflict_names_the_aspects_and_changes_nothing(tmp_path: Path, change: dict[str, dict[str, Any]]) -> None:
    url = url_of(tmp_path / "study.db")
    add(open_study(url, "heretic", IDENTITY), record(0, 1, 1))
    with pytest.raises(StudyConflict) as caught:
        open_study(url, "heretic", Identity({**IDENTITY.aspects, **change}))
    message = str(caught.value)
    assert all(aspect in message for aspect in change)
    assert "set of training prompts" not in message
    assert "--study-name" in message
    assert len(stored_records(open_study(url, "heretic", IDENTITY))) == 1


def test_a_missing_aspect_is_a_conflict_too(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    open_study(url, "heretic", IDENTITY)
    with pytest.raises(StudyConflict, match="another model;"):
        open_study(url, "heretic", Identity({key: value for key, value in IDENTITY.aspects.items() if key != "model"}))


def test_what_an_earlier_version_did_not_store_is_compared_from_the_first_continuation_on(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")

    def today(template: str) -> Identity:
        return Identity({**IDENTITY.aspects, "chat template": {"sha256": template}}, added=frozenset({"chat template"}))

    open_study(url, "heretic", IDENTITY)
    open_study(url, "heretic", today("first"))
    with pytest.raises(StudyConflict, match="another chat template;"):
        open_study(url, "heretic", today("second"))


def test_what_version_0_1_stored_is_moved_once_the_study_goes_on(tmp_path: Path) -> None:
    """That version then refuses it, as one of a newer Heretic, instead of reading a pulse that nobody renews."""
    url = url_of(tmp_path / "study.db")
    directions = encoded(StoredDirections(IDENTITY.aspects, random_set(0)))
    told = {"state": "finished", "host": "elsewhere"}
    stored = {IDENTITY_ATTRIBUTE: IDENTITY.aspects, PULSE_ATTRIBUTE: told, **directions}
    study = optuna.create_study(storage=url, study_name="heretic", directions=["minimize"] * 2)
    for name, value in stored.items():
        study.set_user_attr(name, value)
    study.set_user_attr("note", "of its user")
    with pytest.raises(StudyConflict):
        open_study(url, "heretic", Identity({"model": {"parameters": "x"}}))
    assert study.user_attrs == {**stored, "note": "of its user"}
    for _ in range(2):
        again = open_study(url, "heretic", IDENTITY)
        assert again.user_attrs == {**dict.fromkeys(stored, ""), "note": "of its user"}
        assert study_attributes(again) == {**stored, "note": "of its user"}
    assert decoded(stored_attributes(url, "heretic"), "The study") is not None


def test_two_names_are_two_studies(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    add(open_study(url, "one", IDENTITY), record(0, 1, 1))
    assert stored_records(open_study(url, "two", Identity({"model": {"parameters": "x"}}))) == []


def foreign_with_trials(url: str) -> None:
    study = optuna.create_study(storage=url, study_name="heretic", directions=["minimize", "minimize"])
    study.tell(study.ask(), [1.0, 2.0])


def foreign_without_trials(url: str) -> None:
    optuna.create_study(storage=url, study_name="heretic", direction="maximize")


def foreign_maximising(url: str) -> None:
    optuna.create_study(storage=url, study_name="heretic", directions=["maximize", "maximize"])


@pytest.mark.parametrize("make", [foreign_with_trials, foreign_without_trials, foreign_maximising])
def test_a_study_of_another_program_is_left_alone(tmp_path: Path, make: object) -> None:
    url = url_of(tmp_path / "study.db")
    make(url)  # type: ignore[operator]  # every one of them takes a URL
    with pytest.raises(StudyConflict, match="was not made by Heretic; name another --study-name"):
        open_study(url, "heretic", IDENTITY)
    study = optuna.load_study(storage=url, study_name="heretic")
    assert study.user_attrs == {}


def test_trials_that_were_left_running_are_failed(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    add(study, record(0, 1, 1))
    study.ask()
    study.ask()
    again = open_study(url, "heretic", IDENTITY)
    assert [trial.state for trial in again.trials] == [OptunaState.COMPLETE, OptunaState.FAIL, OptunaState.FAIL]
    assert len(stored_records(again)) == 1


def assert_one_clear_sentence(message: str, *parts: str) -> None:
    for part in (*parts, "--storage"):
        assert part in message
    assert "\n" not in message
    assert "Traceback" not in message
    assert "sqlalche.me" not in message


@pytest.mark.parametrize("content", [b"this is no database " * 100, b"SQLite format 3\x00" + bytes(range(256)) * 20])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        open_study(url_of(path), "heretic", IDENTITY)
    assert_one_clear_sentence(str(caught.value), "damaged.db", "damaged or no study file")
    assert path.read_bytes() == content


def test_another_programs_database_with_the_same_table_names(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE studies (title TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(StudyError) as caught:
        open_study(url_of(path), "heretic", IDENTITY)
    assert_one_clear_sentence(str(caught.value), "other.db", "damaged or no study file")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_a_locked_file(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    url = url_of(path)
    open_study(url, "heretic", IDENTITY)
    # SQLite waits before it gives up; the tests need not.
    with locked(path), pytest.raises(StudyError) as caught:
        open_study(f"{url}?timeout=0.2", "heretic", IDENTITY)
    assert_one_clear_sentence(str(caught.value), "study.db", "locked by another process")
    assert open_study(url, "heretic", IDENTITY).trials == []


@contextmanager
def connections() -> Iterator[list[int]]:
    """How long SQLite waits for a lock, in milliseconds, of every connection that is opened."""
    waits: list[int] = []

    def look(connection: Any, _record: object) -> None:
        waits.append(connection.execute("PRAGMA busy_timeout").fetchone()[0])

    event.listen(Engine, "connect", look)
    try:
        yield waits
    finally:
        event.remove(Engine, "connect", look)


@pytest.mark.parametrize(("options", "expected"), [("", LOCK_WAIT_SECONDS), ("?timeout=0.2", 0.2)])
def test_a_lock_is_waited_for_longer_than_sqlite_would_unless_the_url_says_otherwise(
    tmp_path: Path, options: str, expected: float
) -> None:
    assert LOCK_WAIT_SECONDS > 5
    with connections() as waits:
        open_study(url_of(tmp_path / "study.db") + options, "heretic", IDENTITY)
    assert waits
    assert set(waits) == {int(expected * 1000)}


def test_a_lock_while_a_trial_is_told(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    url = f"{url_of(path)}?timeout=0.2"
    study = open_study(url, "heretic", IDENTITY)
    trial = study.ask()
    with locked(path), pytest.raises(StudyError, match="locked by another process"), storage_errors(url):
        tell(study, trial, record(0, 1, 1))


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/no/such/folder"])
def test_a_place_that_cannot_be_written(folder: str) -> None:
    with pytest.raises(StudyError) as caught:
        open_study(f"sqlite:///{folder}/study.db", "heretic", IDENTITY)
    assert_one_clear_sentence(str(caught.value), folder, "cannot be written", "permissions")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    open_study(url_of(path), "heretic", IDENTITY)
    path.chmod(0o444)
    with pytest.raises(StudyError, match="cannot be written"):
        open_study(url_of(path), "another", IDENTITY)


def test_a_database_opened_read_only(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    open_study(url_of(path), "heretic", IDENTITY)
    url = f"sqlite:///file:{path}?mode=ro&uri=true"
    with pytest.raises(StudyError) as caught:
        open_study(url, "another", IDENTITY)
    assert_one_clear_sentence(str(caught.value), "cannot be written")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://someone:hunter2@db.invalid/heretic",
        "mysql+pymysql://someone:hunter2@db.invalid/heretic",
        "nosuchdatabase://someone:hunter2@db.invalid/heretic",
        "sqlite+nosuchdriver:///x.db?password=hunter2",
        "postgresql://someone:hunter2@db.invalid:notaport/heretic",
        "not a url with hunter2",
    ],
)
def test_a_url_that_cannot_be_used_is_a_user_error_without_the_password(url: str) -> None:
    with pytest.raises(StudyError) as caught:
        open_study(url, "heretic", IDENTITY)
    assert "hunter2" not in str(caught.value)
    assert_one_clear_sentence(str(caught.value))


def test_the_password_is_hidden_in_every_message() -> None:
    url = "postgresql://someone:hunter2@db.invalid/heretic"
    for text in ("database is locked", "file is not a database", "unable to open", "disk is full", "no idea"):
        with pytest.raises(StudyError) as caught, storage_errors(url):
            raise OperationalError("SELECT 1", {}, Exception(text))
        assert "hunter2" not in str(caught.value)
        assert "someone:***@db.invalid" in str(caught.value)


def test_a_full_disk() -> None:
    with pytest.raises(StudyError, match="disk is full; free some space"), storage_errors("sqlite:///x.db"):
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), storage_errors("sqlite:///x.db"):
        raise ZeroDivisionError


# What a dead run was measuring ----------------------------------------------------------------------------------------


@pytest.mark.versions
def test_plans_of_a_dead_run_are_tried_again_once(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    dead = open_study(url, "s", IDENTITY)
    plans = [SPACE.suggest(dead.ask()) for _ in range(2)]
    dead.ask()  # died before anything was suggested for it
    resumed = open_study(url, "s", IDENTITY)
    again = [resumed.ask() for _ in range(3)]
    assert [SPACE.suggest(trial) for trial in again[:2]] == plans
    assert [trial.user_attrs.get(RETRIED_ATTRIBUTE) for trial in again] == [0, 1, None]
    # It may be what the run died of.
    third = open_study(url, "s", IDENTITY)
    assert SPACE.suggest(third.ask()) not in plans
    states = [trial.state for trial in third.get_trials()]
    assert states.count(OptunaState.RUNNING) == 1
    assert states.count(OptunaState.FAIL) == 6


@pytest.mark.versions
@pytest.mark.parametrize(
    "entry", [record(0, 3, 0.1), dominated(0, 3, 0.1), failed(0)], ids=["complete", "stopped", "failed"]
)
def test_a_trial_that_was_measured_before_its_run_died_is_ended_and_not_repeated(tmp_path: Path, entry) -> None:
    url = url_of(tmp_path / "study.db")
    dead = open_study(url, "s", IDENTITY)
    trial = dead.ask()
    SPACE.suggest(trial)
    trial.set_user_attr(RECORD_ATTRIBUTE, entry.to_json())  # and was killed before the values were told
    resumed = open_study(url, "s", IDENTITY)
    (told,) = resumed.get_trials()
    expected = OptunaState.FAIL if entry.state is TrialState.FAILED else OptunaState.COMPLETE
    assert told.state is expected
    assert stored_records(resumed) == [entry]
    assert told.values == (None if expected is OptunaState.FAIL else [3, 0.1])


def test_a_plan_that_was_to_be_tried_keeps_saying_where_it_comes_from(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    dead = open_study(url, "s", IDENTITY)
    enqueue_plan(dead, SPACE, PLAN, "profiles")
    # Died before the parameters were asked for.
    dead.ask()
    resumed = open_study(url, "s", IDENTITY)
    trial = resumed.ask()
    assert SPACE.suggest(trial).schedules == PLAN.schedules
    assert trial.user_attrs[SOURCE_ATTRIBUTE] == "profiles"


def test_tables_that_another_run_creates_at_the_same_moment_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PostgreSQL raises to one of two runs that begin on a new database; a lasting failure is still raised."""
    real, left = LastingStorage.__init__, [1]

    def racing(*arguments: Any, **keywords: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise IntegrityError("CREATE TABLE studies", None, Exception("duplicate key value"))
        real(*arguments, **keywords)

    monkeypatch.setattr(LastingStorage, "__init__", racing)
    url = url_of(tmp_path / "s.db")
    assert open_study(url, "s", IDENTITY).study_name == "s"
    left[0] = 2
    with pytest.raises(StudyError, match="duplicate key value"):
        open_study(url, "s", IDENTITY)


def test_a_fault_of_the_disk_is_no_full_disk() -> None:
    with pytest.raises(StudyError, match="reports a fault; check the disk") as caught, storage_errors("sqlite:///x.db"):
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("disk I/O error"))
    assert "full" not in str(caught.value)


def test_the_home_folder_in_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    url = "sqlite:///~/x.db?timeout=5"
    assert open_study(url, "mine", IDENTITY).study_name == "mine"
    assert (tmp_path / "home" / "x.db").is_file()
    with StudyReader(url, "mine") as reader:
        assert reader.read().name == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, None, "3"], ids=str)
def test_what_optuna_would_refuse_is_stored_as_failed_and_the_study_goes_on(tmp_path: Path, value: Any) -> None:
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    good = record(0, 1, 1)
    add(study, good)
    bad = record(1, 1, 1)
    add(study, replace(bad, scores=replace(bad.measured, kl=replace(bad.kl, value=value))))
    add(study, several(2, 1, 1, 1))
    again = open_study(url, "heretic", IDENTITY)
    read, *refused = stored_records(again)
    assert read == good
    assert [(entry.state, "it cannot be told" in entry.reason) for entry in refused] == [(TrialState.FAILED, True)] * 2
    assert [trial.state for trial in again.trials] == [OptunaState.COMPLETE, OptunaState.FAIL, OptunaState.FAIL]


@pytest.mark.parametrize("stored", [None, "text", {"state": "complete"}, {"state": "new"}], ids=str)
def test_a_left_over_trial_whose_record_cannot_be_read_is_failed_and_named(tmp_path: Path, stored: Any) -> None:
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    add(study, record(0, 1, 1))
    SPACE.suggest(trial := study.ask())
    trial.set_user_attr(RECORD_ATTRIBUTE, stored)
    records = stored_records(open_study(url, "heretic", IDENTITY))
    assert [entry.is_read for entry in records] == [True, False]
    assert records[1].is_failed
    assert "newer or older Heretic" in records[1].reason
    assert unreadable_text(records).startswith("1 stored trial (2) cannot be read")
