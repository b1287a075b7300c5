"""A study looked at from outside: what is there, what is missing, and never a trace of the look."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import psutil
import pytest
from tests.unit.measured import kept
from tests.unit.search.studies import IDENTITY, SPACE, dominated, failed, record, several, statements, url_of

from heretic.common.errors import StudyError, VersionSkewError
from heretic.observability.events import BatchMeasured, Event, Warned, subscribed
from heretic.observability.steps import step
from heretic.observability.steps import tell as tell_step
from heretic.results.objective import Objective
from heretic.results.trial import TrialRecord
from heretic.search import heartbeat as heartbeat_module
from heretic.search.heartbeat import INTERVAL_SECONDS, Heartbeat
from heretic.search.private_api import study_attributes
from heretic.search.pulse import PULSE_ATTRIBUTE, Pulse, process_mark, run_state, still_works
from heretic.search.records import tell
from heretic.search.status import StudyReader, StudyStatus
from heretic.search.storage import open_study

BATCH = BatchMeasured(2, 4.0, 100, 25.0, {})


def add(study: optuna.Study, entry: TrialRecord) -> None:
    trial = study.ask()
    SPACE.suggest(trial)
    tell(study, trial, entry)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a study#1.db"


@pytest.fixture
def study(file: Path) -> optuna.Study:
    return open_study(url_of(file), "heretic", IDENTITY)


def look(file: Path, name: str = "heretic") -> StudyStatus:
    with StudyReader(url_of(file), name) as reader:
        return reader.read()


def test_a_file_whose_making_was_interrupted_is_named_as_that_and_made_by_the_next_run(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_manager: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(optuna.storages._rdb.storage._VersionManager, "_init_version_info_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_study(url_of(file), "heretic", IDENTITY)
    before = file.read_bytes()
    with pytest.raises(StudyError, match=r"is not finished: .* run the same command again"):
        look(file)
    assert file.read_bytes() == before
    file.write_bytes(b"")
    with pytest.raises(StudyError, match=r"is not finished: "):
        look(file)
    open_study(url_of(file), "heretic", IDENTITY)
    assert look(file).finished == 0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_trials_by_state_front_and_best(file: Path, study: optuna.Study) -> None:
    for entry in (record(0, 12, 0.1), record(1, 3, 0.5), record(2, 20, 0.4), dominated(3, 9, 2.0), failed(4)):
        add(study, entry)
    study.ask()
    study.enqueue_trial({})
    status = look(file)
    assert status.trials == {"complete": 3, "stopped": 1, "failed": 1, "running": 1, "waiting": 1}
    assert status.finished == 4
    assert [entry.number for entry in status.front] == [1, 0]
    given = status.to_json()
    behavior = {"name": "refusals", "value": 3, "unit": "answers", "prompts": 100, "baseline": 50}
    # The first behaviour's numbers also stand where they always stood.
    first = {"counted": "refusals", "count": 3, "prompts": 100, "baseline": 50}
    assert given["best"] == {"trial": 2, "behaviors": [behavior], "kept": [], "kl": 0.5, **first}
    assert given["run"] == "unknown"
    assert given["remaining_seconds"] is None


def test_every_behaviour_of_a_trial_is_told(file: Path) -> None:
    objective = Objective(behaviors=2)
    study = open_study(url_of(file), "heretic", IDENTITY, objective)
    trial = study.ask()
    SPACE.suggest(trial)
    tell(study, trial, several(0, 3, 4.5, 0.25), objective)
    best = look(file).to_json()["best"]
    assert best["kl"] == 0.25
    assert best["behaviors"] == [
        {"name": "refusals", "value": 3, "unit": "answers", "prompts": 100, "baseline": 50},
        {"name": "words", "value": 4.5, "unit": "words", "prompts": 40, "baseline": 20},
    ]


def test_what_stays_is_told_and_what_lost_too_much_is_not_on_the_front(file: Path, study: optuna.Study) -> None:
    for number, lost in ((0, 2), (1, 1)):
        scores = replace(record(number, 3, 0.5).measured, kept=(kept(lost, allowed=1),))
        add(study, replace(record(number, 3, 0.5), scores=scores))
    status = look(file)
    assert [entry.number for entry in status.front] == [1]
    assert status.to_json()["best"]["kept"] == [{"name": "kept_abstention", "count": 37, "prompts": 38}]


def test_a_look_reads_the_trials_once(file: Path, study: optuna.Study) -> None:
    """And the next one only those that are new."""
    for entry in (record(0, 12, 0.1), record(1, 3, 0.5)):
        add(study, entry)
    with StudyReader(url_of(file), "heretic") as reader:
        with statements(reader.study) as asked:
            reader.read()
        assert sum("FROM trials" in statement for statement in asked) == 1
        assert sum("FROM trial_params" in statement for statement in asked) == 1
        with statements(reader.study) as asked:
            assert reader.read().finished == 2
        assert not any("FROM trial_params" in statement for statement in asked)


def test_an_empty_study_is_no_mistake(file: Path, study: optuna.Study) -> None:
    status = look(file)
    assert status.finished == 0
    assert status.to_json()["best"] is None


def test_a_look_leaves_no_trace_and_takes_no_lock(file: Path, study: optuna.Study) -> None:
    add(study, record(0, 12, 0.1))
    study.ask()
    before = hashlib.sha256(file.read_bytes()).hexdigest(), sorted(file.parent.iterdir())
    with StudyReader(url_of(file), "heretic") as reader:
        reader.read()
        # Between two looks a run can write, and the second look sees it.
        with sqlite3.connect(file, timeout=0) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            writer.rollback()
        assert (hashlib.sha256(file.read_bytes()).hexdigest(), sorted(file.parent.iterdir())) == before
        add(study, record(2, 3, 0.5))
        assert reader.read().finished == 2


def test_it_can_be_read_while_a_run_is_about_to_write(file: Path, study: optuna.Study) -> None:
    add(study, record(0, 12, 0.1))
    with sqlite3.connect(file) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert look(file).finished == 1
        writer.rollback()


def test_what_is_missing_is_named(file: Path, study: optuna.Study, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no study other in .*it holds heretic; name one with --study-name"):
        look(file, "other")
    with pytest.raises(StudyError, match=r"no study file .*gone.db; run 'heretic MODEL' first"):
        look(tmp_path / "gone.db")
    assert not (tmp_path / "gone.db").exists()


def test_what_is_no_study_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at as one " * 20)
    with pytest.raises(StudyError, match="is damaged or no study file"):
        look(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE other (x)")
    with pytest.raises(StudyError, match="is damaged or no study file"):
        look(tmp_path / "empty.db")
    foreign = optuna.create_study(storage=url_of(tmp_path / "foreign.db"), study_name="heretic")
    foreign.tell(foreign.ask(), 1.0)
    with pytest.raises(StudyError, match="not made by Heretic"):
        look(tmp_path / "foreign.db")


def test_the_pulse_of_a_run(file: Path, study: optuna.Study) -> None:
    clock = Clock()
    heartbeat = Heartbeat(study, "demo", 16, 10, now=clock)
    assert look(file).run == "preparing"
    heartbeat.search_started(0, 10)
    add(study, record(0, 12, 0.1))
    add(study, record(1, 13, 0.1))
    clock.now += INTERVAL_SECONDS
    heartbeat.batch_measured(2, 4, BATCH)
    status = look(file)
    pulse = status.pulse
    assert pulse is not None
    assert (status.run, pulse.pid, pulse.model, pulse.batch_size, pulse.candidates) == (
        "searching",
        os.getpid(),
        "demo",
        16,
        4,
    )
    assert pulse.seconds_per_trial == INTERVAL_SECONDS / 2
    assert status.remaining_seconds == 8 * INTERVAL_SECONDS / 2
    assert pulse.memory["host"]["used_bytes"] > 0
    heartbeat.search_ended(interrupted=True)
    ended = look(file)
    assert (ended.run, ended.remaining_seconds) == ("interrupted", None)
    assert ended.elapsed_seconds == INTERVAL_SECONDS


def test_the_pulse_names_the_step_that_a_run_is_in_once_its_search_is_over(file: Path, study: optuna.Study) -> None:
    clock = Clock()
    heartbeat = Heartbeat(study, "demo", 16, 10, now=clock)
    looks = []

    def see() -> None:
        status = look(file)
        looks.append((status.run, status.to_json()["step"], status.to_json()["step_remaining_seconds"]))

    with subscribed(heartbeat, steps=True):
        with step("opening the study"):
            clock.now += INTERVAL_SECONDS
            tell_step()
            see()
        heartbeat.search_started(0, 10)
        clock.now += 60
        with step("searching", 10, "trials"):
            see()
        heartbeat.search_ended(interrupted=False)
        see()
        with step("checking the front"):
            see()
            with step("measuring trial 8", 100, "answers", now=clock) as progress:
                clock.now += INTERVAL_SECONDS
                progress.advance(20)
                see()
        see()
        with step("saving"):
            see()

    assert looks == [
        ("preparing", "opening the study", None),
        ("searching", "", None),
        ("finished", "", None),
        ("finishing", "checking the front", None),
        ("finishing", "checking the front: measuring trial 8, 20/100 answers", 4 * INTERVAL_SECONDS),
        ("finished", "", None),
        ("finishing", "saving", None),
    ]
    # What comes after the search is not counted as its time.
    assert look(file).elapsed_seconds == 60


def test_the_rate_is_that_of_the_latest_batches(file: Path, study: optuna.Study) -> None:
    clock = Clock()
    heartbeat = Heartbeat(study, "demo", 16, 1000, now=clock)
    heartbeat.search_started(0, 1000)
    for finished in range(1, 200):
        clock.now += 5 if finished < 150 else 20
        heartbeat.batch_measured(finished, 1, BATCH)
    status = look(file)
    assert status.pulse is not None
    assert status.pulse.seconds_per_trial == 20


def test_the_pulse_is_written_once_in_some_seconds(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = Clock(), []
    heartbeat = Heartbeat(study, "demo", 16, 10, now=clock)
    heartbeat.search_started(0, 10)
    monkeypatch.setattr(heartbeat_module, "set_study_attribute", lambda _study, _name, value: written.append(value))
    for finished in range(1, 101):
        clock.now += 0.1
        heartbeat.batch_measured(finished, 1, BATCH)
    assert len(written) == 10 / INTERVAL_SECONDS


def test_a_storage_that_refuses_the_pulse_is_said_once(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_study: object, _name: str, _value: object) -> None:
        raise optuna.exceptions.StorageInternalError("the disk is full")

    monkeypatch.setattr(heartbeat_module, "set_study_attribute", refuse)
    seen: list[Event] = []
    with subscribed(seen.append):
        heartbeat = Heartbeat(study, "demo", 16, 10)
        heartbeat.search_started(0, 10)
    (said,) = seen
    assert isinstance(said, Warned)
    assert "the disk is full" in said.message


def test_a_process_that_died_is_gone_and_one_elsewhere_is_believed(study: optuna.Study) -> None:
    Heartbeat(study, "demo", 16, 10).search_started(0, 10)
    pulse = Pulse.from_json(study_attributes(study)[PULSE_ATTRIBUTE])
    assert pulse is not None
    assert run_state(pulse) == "searching"
    # Its number belongs to another process now.
    earlier = replace(pulse, process_started=pulse.process_started - 60, process_mark=f"{pulse.process_mark}1"[1:])
    assert run_state(earlier) == "gone"
    assert run_state(replace(earlier, process_mark="")) == "gone"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert run_state(replace(pulse, pid=ended.pid)) == "gone"
    assert run_state(replace(pulse, pid=ended.pid, host="elsewhere")) == "searching"
    assert run_state(replace(pulse, state="finished", pid=ended.pid)) == "finished"


def test_what_the_version_before_told_is_read_and_what_nobody_told_is_not(study: optuna.Study) -> None:
    Heartbeat(study, "demo", 16, 10, ["its window is narrow (about twice as long)"]).search_started(0, 10)
    told = study_attributes(study)[PULSE_ATTRIBUTE]
    pulse = Pulse.from_json(told)
    assert pulse is not None
    assert list(pulse.slower) == ["its window is narrow (about twice as long)"]
    before = {name: value for name, value in told.items() if name != "slower"}
    assert Pulse.from_json(before) == replace(pulse, slower=())
    assert Pulse.from_json({**told, "news": 1}) == pulse
    assert Pulse.from_json({"state": "searching"}) is not None
    for hostile in ("text", {}, {"state": "dreaming"}):
        with pytest.raises(VersionSkewError, match="newer or older Heretic"):
            Pulse.from_json(hostile)
    assert Pulse.from_json(None) is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the time at which a process began stays as it was")
def test_a_clock_that_is_set_ends_no_run(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    Heartbeat(study, "demo", 16, 10).search_started(0, 10)
    pulse = Pulse.from_json(study_attributes(study)[PULSE_ATTRIBUTE])
    assert pulse is not None
    monkeypatch.setattr(psutil.Process, "create_time", lambda _process: pulse.process_started + 3600)
    assert run_state(pulse) == "searching"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        elsewhere = replace(pulse, pid=other.pid, process_mark=process_mark(other.pid))
        # By which a second run on a server is refused.
        assert still_works(elsewhere, pulse.updated + 3600)
        other.communicate(b"\n")
    assert not still_works(elsewhere, pulse.updated)
