"""Several workers on one study: what each may ask for, and what becomes of the trials of those that are gone."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState as OptunaState
from tests.unit.search.studies import IDENTITY, SPACE, record, url_of
from tests.unit.search.test_loop import FakeEngine, scores_of

from heretic.common.errors import VersionSkewError
from heretic.engine.engine import Engine
from heretic.observability.events import Event, StepGoesOn, TrialFinished, Warned, subscribed
from heretic.results.objective import BOTH_NUMBERS
from heretic.results.plan import EditPlan
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord
from heretic.search import loop
from heretic.search.claim import Turn
from heretic.search.crew import Alone
from heretic.search.heartbeat import INTERVAL_SECONDS, Heartbeat
from heretic.search.loop import SearchResult, search
from heretic.search.private_api import attributes_named, set_study_attribute
from heretic.search.pulse import (
    PULSE_ATTRIBUTE,
    SILENCE_BATCHES,
    SILENCE_SECONDS,
    Pulse,
    left_over,
    pulse_of,
    pulses_in,
    still_works,
)
from heretic.search.records import GIVEN_UP, RECORD_ATTRIBUTE, RETRIED_ATTRIBUTE, measured_by, records_of, tell
from heretic.search.sampler import make_sampler
from heretic.search.servers import engine_options
from heretic.search.status import StudyReader
from heretic.search.storage import open_study
from heretic.search.workers import Workers, workers_before


@pytest.fixture
def url(tmp_path: Path) -> str:
    return url_of(tmp_path / "study.db")


@pytest.fixture
def study(url: str) -> optuna.Study:
    return open_study(url, "heretic", IDENTITY)


def elsewhere(worker: str, trials: tuple[int, ...] = (), **changes: object) -> Pulse:
    return replace(
        Pulse("searching", host="elsewhere", pid=1, updated=1000.0, worker=worker, trials=trials),
        **changes,  # type: ignore[arg-type]
    )


def say(study: optuna.Study, pulse: Pulse) -> None:
    set_study_attribute(study, pulse_of(pulse.worker), pulse.to_json())


def begun(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    SPACE.suggest(trial)
    return trial


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def workers_of(study: optuna.Study, url: str, now: Callable[[], float] = time.monotonic) -> tuple[Workers, Heartbeat]:
    heartbeat = Heartbeat(study, "demo", 16, 10, worker="here")
    workers = Workers(study, Turn(url, patient=True), BOTH_NUMBERS, heartbeat, now)
    workers.name = "here"
    return workers, heartbeat


def searched(
    study: optuna.Study, url: str, engine: Engine, n_trials: int, now: Callable[[], float] = time.monotonic
) -> tuple[SearchResult, list[Event]]:
    seen: list[Event] = []
    workers, heartbeat = workers_of(study, url, now)
    with subscribed(seen.append):
        return search(study, url, SPACE, Alone(engine), n_trials, heartbeat=heartbeat, workers=workers), seen


def test_no_more_is_asked_for_than_what_others_measure_leaves(study: optuna.Study, url: str) -> None:
    say(study, elsewhere("other", (0, 1, 2)))
    for _ in range(3):
        begun(study)
    workers, _heartbeat = workers_of(study, url)
    assert [trial.number for trial in workers.ask(set(), 0, 5, 8).trials] == [3, 4]
    pulses = pulses_in(attributes_named(study, PULSE_ATTRIBUTE))
    assert list(pulses["pulse.here"].trials) == [3, 4]
    # What it has just asked for is its own, and measured before it asks again.
    for number in (3, 4):
        study.tell(number, state=OptunaState.FAIL)
    assert [trial.number for trial in workers.ask(set(), 2, 5, 8).trials] == []


def test_a_search_waits_for_the_last_trials_of_others_and_has_them_in_its_front(
    study: optuna.Study, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(study, elsewhere("other", (0,)))
    theirs = begun(study)
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        tell(study, theirs, record(0, 0.0, 0.0), worker="other")

    monkeypatch.setattr(loop.time, "sleep", wait)
    result, seen = searched(study, url, FakeEngine(lambda plan, _number: scores_of(plan)), 3)
    assert waited == [loop.WAITING_SECONDS]
    assert [entry.number for entry in result.records] == [0, 1, 2]
    assert len(study.trials) == 3
    told = {event.record.number: event for event in seen if isinstance(event, TrialFinished)}
    assert {number: event.worker for number, event in told.items()} == {0: "other", 1: "", 2: ""}
    assert told[0].on_front
    best = told[0].standing.best
    assert best is not None
    assert best.number == 0


def test_records_of_others_close_the_gate(study: optuna.Study, url: str) -> None:
    theirs = begun(study)

    def measure(plan: EditPlan, number: int) -> Scores:
        if number == 1:
            tell(study, theirs, record(0, 7.0, 0.001), worker="other")
        return scores_of(plan)

    say(study, elsewhere("other", (0,)))
    engine = FakeEngine(measure)
    searched(study, url, engine, 3)
    assert [(7.0, 0.001) in gate.finished for gate in engine.gates] == [False, True]


@pytest.mark.parametrize(
    ("pulses", "expected"),
    [
        ([elsewhere("other", (3,))], False),
        ([elsewhere("other", (2,))], True),
        ([elsewhere("other", (3,), state="finished")], True),
        ([elsewhere("other", (3,), state="interrupted")], True),
        ([elsewhere("silent", (3,))], True),
        ([elsewhere("silent", (3,)), elsewhere("other", (3,))], False),
        # An earlier version names no trials: all that nobody else names may be its own.
        ([elsewhere("")], False),
        ([elsewhere("", state="finished")], True),
        # Its process is not there any more.
        ([elsewhere("other", (3,), host=socket.gethostname(), pid=2**22 + 1)], True),
        ([elsewhere("other", (3,), host=socket.gethostname(), pid=os.getpid(), process_started=0.0)], True),
        ([], True),
    ],
)
def test_whose_trials_are_left_over(pulses: list[Pulse], expected: bool) -> None:
    assert left_over(3, pulses, lambda pulse: pulse.worker == "silent") is expected


def test_a_worker_is_silent_when_its_pulse_stays_as_it_is_for_long_by_the_clock_of_who_looks(
    study: optuna.Study, url: str
) -> None:
    clock = Clock()
    workers, _heartbeat = workers_of(study, url, clock)
    begun(study)
    # Its own clock may be years behind.
    say(study, elsewhere("other", (0,), updated=1.0, seconds_per_trial=10.0, candidates=4))
    patience = SILENCE_BATCHES * 40.0
    assert patience > SILENCE_SECONDS

    def state() -> OptunaState:
        workers.ask(set(), 9, 9, 1)
        return study.trials[0].state

    assert state() is OptunaState.RUNNING
    clock.now += patience - 1
    assert state() is OptunaState.RUNNING
    say(study, elsewhere("other", (0,), updated=2.0, seconds_per_trial=10.0, candidates=4))
    clock.now += 2
    assert state() is OptunaState.RUNNING
    clock.now += patience + 1
    assert state() is OptunaState.FAIL
    (again,) = [trial for trial in study.trials if trial.state is OptunaState.WAITING]
    assert again.user_attrs == {RETRIED_ATTRIBUTE: 0}


def test_the_result_of_a_worker_that_was_taken_for_dead_is_dropped_and_it_goes_on(
    study: optuna.Study, url: str
) -> None:
    def measure(plan: EditPlan, number: int) -> Scores:
        if number == 0:
            study.tell(0, state=OptunaState.FAIL)
        return scores_of(plan)

    result, seen = searched(study, url, FakeEngine(measure), 2)
    (warned,) = [event.message for event in seen if isinstance(event, Warned)]
    assert "took it for dead: the results of 1 trial (1) are dropped" in warned
    assert [entry.number for entry in result.records] == [1, 2]
    assert RECORD_ATTRIBUTE not in study.trials[0].user_attrs


def test_a_record_that_came_just_before_its_trial_was_failed_counts_as_failed(study: optuna.Study) -> None:
    trial = begun(study)
    trial.set_user_attr(RECORD_ATTRIBUTE, record(0, 1.0, 0.1).to_json())
    study.tell(0, state=OptunaState.FAIL)
    (stored,) = records_of(study.trials)
    assert (stored.is_failed, stored.reason) == (True, GIVEN_UP)


def test_telling_a_trial_that_another_ended_stores_nothing(study: optuna.Study) -> None:
    trial = begun(study)
    study.tell(0, [1.0, 2.0])
    before = study.trials[0]
    assert tell(study, trial, record(0, 3.0, 0.1)) is None
    assert study.trials[0] == before


def test_who_measured_a_trial_stands_beside_its_record(study: optuna.Study) -> None:
    tell(study, begun(study), record(0, 1.0, 0.1), worker="other")
    tell(study, begun(study), record(1, 1.0, 0.1))
    assert [measured_by(trial) for trial in study.trials] == ["other", ""]
    assert TrialRecord.from_json(study.trials[0].user_attrs[RECORD_ATTRIBUTE]) == record(0, 1.0, 0.1)


def test_a_long_batch_is_told_of_while_it_lasts(study: optuna.Study) -> None:
    clock = Clock()
    heartbeat = Heartbeat(study, "demo", 16, 10, now=clock, worker="here")
    heartbeat.search_started(0, 10)
    clock.now += INTERVAL_SECONDS
    heartbeat(StepGoesOn("searching", (), 0, 10, "trials", "", 10.0, None))
    assert pulses_in(attributes_named(study, PULSE_ATTRIBUTE))["pulse.here"].updated == INTERVAL_SECONDS


def test_a_stopped_process_of_this_machine_is_judged_by_its_silence() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        pulse = elsewhere("other", host=socket.gethostname(), pid=other.pid)
        pulse = replace(pulse, process_started=psutil.Process(other.pid).create_time())
        assert still_works(pulse, pulse.updated + 3600)
        other.send_signal(signal.SIGSTOP)
        while psutil.Process(other.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)
        assert still_works(pulse, pulse.updated + 1)
        assert not still_works(pulse, pulse.updated + 3600)
        other.kill()


def test_status_lists_every_worker(study: optuna.Study, url: str) -> None:
    now = time.time()
    say(study, elsewhere("first", (0, 1), updated=now - 3600, seconds_per_trial=2.0, n_trials=10))
    say(study, elsewhere("second", (2,), updated=now, seconds_per_trial=2.0, n_trials=10))
    with StudyReader(url, "heretic") as reader:
        status = reader.read()
    assert status.pulse is not None
    assert status.pulse.worker == "second"
    assert [(worker["worker"], worker["run"], worker["trials"]) for worker in status.to_json()["workers"]] == [
        ("first", "silent", [1, 2]),
        ("second", "searching", [3]),
    ]
    assert status.remaining_seconds == 20.0
    say(study, elsewhere("first", (0, 1), updated=now - 1, seconds_per_trial=2.0, n_trials=10))
    with StudyReader(url, "heretic") as reader:
        assert reader.read().remaining_seconds == 10.0


def test_workers_with_one_seed_draw_numbers_of_their_own(study: optuna.Study) -> None:
    assert workers_before(study) == 0
    say(study, elsewhere("first"))
    set_study_attribute(study, pulse_of("second"), "")
    assert workers_before(study) == 2

    def drawn(workers: int) -> EditPlan:
        fresh = optuna.create_study(directions=["minimize"] * 2, sampler=make_sampler(3, 4, 0, workers))
        return SPACE.suggest(fresh.ask())

    assert drawn(0) == drawn(0)
    assert len({str(drawn(workers)) for workers in range(4)}) == 4
    assert make_sampler(2**32 - 1, 4, 100, 100) is not None


def test_servers_get_few_connections_and_those_that_were_ended_are_noticed() -> None:
    options = engine_options("postgresql+psycopg://user@host/name")
    assert (options["pool_size"], options["max_overflow"], options["pool_pre_ping"]) == (1, 2, True)
    assert "pool_size" not in engine_options("sqlite:///study.db")


def test_a_pulse_of_another_version_ends_the_look(study: optuna.Study) -> None:
    set_study_attribute(study, pulse_of("other"), {"state": "dreaming"})
    with pytest.raises(VersionSkewError, match="newer or older Heretic"):
        pulses_in(attributes_named(study, PULSE_ATTRIBUTE))
