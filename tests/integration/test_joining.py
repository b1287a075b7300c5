"""Several workers on one study on a server: killed, stopped, late, all at once, and the server started anew."""

import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.event import listen
from tests.integration import joining
from tests.integration.joining import SILENCE, Sleeper
from tests.integration.kill_study import check_front, finished
from tests.integration.test_postgresql import ADDRESS
from tests.unit.search.studies import IDENTITY, PLAN, SPACE, statements

from heretic.common.errors import StudyError
from heretic.observability.events import Event, Warned, subscribed
from heretic.results.objective import BOTH_NUMBERS
from heretic.search import claim, heartbeat
from heretic.search.claim import Turn
from heretic.search.crew import Alone
from heretic.search.loop import search
from heretic.search.private_api import attributes_named
from heretic.search.pulse import PULSE_ATTRIBUTE, pulses_in
from heretic.search.records import RETRIED_ATTRIBUTE, stored_records
from heretic.search.sampler import make_sampler
from heretic.search.storage import connected, open_study
from heretic.search.workers import Workers

# Each is forked of a process that has imported everything, which takes seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.integration.joining"])
KILLS, SEED = int(os.environ.get("TEST_KILLS", "100")), int(os.environ.get("TEST_SEED", "0"))
"""For pieces of a long test, each with other moments."""

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not ADDRESS, reason="there is no server, see test_postgresql.py"),
]


@pytest.fixture
def name() -> str:
    return f"test-{uuid.uuid4().hex}"


class Worker:
    """A process of joining.py, with what it has said so far."""

    def __init__(self, output: Path, *arguments: Any) -> None:
        self.output = output
        self.process = CONTEXT.Process(target=joining.main_telling, args=(output, *arguments))
        self.process.start()

    def said(self, beginning: str) -> list[str]:
        if not self.output.exists():
            return []
        return [line for line in self.output.read_text().splitlines() if line.startswith(beginning)]

    def wait_for(self, beginning: str, times: int = 1, seconds: float = 120.0) -> None:
        ends = time.monotonic() + seconds
        while len(self.said(beginning)) < times:
            assert self.process.is_alive() or len(self.said(beginning)) >= times, self.output.read_text()
            assert time.monotonic() < ends, self.output.read_text()
            time.sleep(0.02)

    def gets(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def ends(self, trials: int) -> None:
        self.process.join(120)
        assert self.process.exitcode == 0, self.output.read_text()
        assert self.said("ended") == [f"ended {trials}"], self.output.read_text()


@pytest.fixture
def start(tmp_path: Path, name: str) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def one(
        trials: int, seconds: float = 0.1, at_once: int = 1, address: str = ADDRESS, silence: int = SILENCE
    ) -> Worker:
        output = tmp_path / str(len(started))
        started.append(Worker(output, address, name, trials, seconds, at_once, silence))
        return started[-1]

    yield one
    for worker in started:
        worker.process.kill()
        worker.process.join()


def study_of(name: str, address: str = ADDRESS) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=connected(address))


def assert_whole(name: str, trials: int, address: str = ADDRESS) -> list[optuna.trial.FrozenTrial]:
    """Every plan wanted was measured, once, none is left, and each number stands for one trial."""
    study = study_of(name, address)
    stored = study.get_trials(deepcopy=False)
    states = Counter(trial.state for trial in stored)
    assert states[OptunaState.COMPLETE] == trials, states
    assert states[OptunaState.RUNNING] == states[OptunaState.WAITING] == 0, states
    assert [trial.number for trial in stored] == list(range(len(stored)))
    complete = [record for record in stored_records(study) if record.is_complete]
    assert len(complete) == trials
    retried = Counter(trial.user_attrs.get(RETRIED_ATTRIBUTE) for trial in stored)
    assert max((count for number, count in retried.items() if number is not None), default=1) == 1
    return stored


def test_workers_that_begin_at_once_share_one_study(start: Callable[..., Worker], name: str) -> None:
    trials = 40
    workers = [start(trials, 0.2, at_once) for at_once in (1, 3, 4)]
    for worker in workers:
        worker.ends(trials)
    stored = assert_whole(name, trials)
    # The first plans were enqueued by one of them.
    parameters = SPACE.parameters(PLAN)
    assert sum(trial.system_attrs.get("fixed_params") == parameters for trial in stored) == 2
    # Each draws numbers of its own, and sees what the others measured.
    drawn = [tuple(trial.params.values()) for trial in stored if "fixed_params" not in trial.system_attrs]
    assert len(set(drawn)) == len(drawn)
    here = [line.split()[1] for worker in workers for line in worker.said("finished") if line.endswith("here")]
    assert sorted(map(int, here)) == [trial.number for trial in stored]
    pulses = pulses_in(attributes_named(study_of(name), PULSE_ATTRIBUTE))
    assert [pulse.state for pulse in pulses.values()] == ["finished"] * 3


@pytest.mark.slow
def test_the_trial_of_a_worker_that_was_killed_is_measured_by_another(start: Callable[..., Worker], name: str) -> None:
    victim = start(12, 60.0, 2)
    victim.wait_for("measuring")
    other = start(12, 0.1)
    other.wait_for("finished", 3)
    # As long as it lives, its trials are left to it.
    running = [trial.number for trial in study_of(name).get_trials(states=(OptunaState.RUNNING,))]
    assert set(map(int, victim.said("measuring")[0].split()[1:])) <= set(running)
    victim.process.kill()
    victim.process.join()
    other.ends(12)
    stored = assert_whole(name, 12)
    failed = [trial.number for trial in stored if trial.state is OptunaState.FAIL]
    assert failed == list(map(int, victim.said("measuring")[0].split()[1:]))


@pytest.mark.slow
def test_a_worker_that_comes_back_after_it_was_taken_for_dead_is_told_so(
    start: Callable[..., Worker], name: str
) -> None:
    late = start(12, 1.0)
    late.wait_for("measuring", 2)
    late.gets(signal.SIGSTOP)
    other = start(10, 0.1)
    other.ends(10)
    late.gets(signal.SIGCONT)
    late.ends(12)
    (warned,) = late.said("warned")
    assert "another one took it for dead" in warned
    assert "measured again" in warned
    assert_whole(name, 12)


def test_a_run_alone_is_refused_beside_a_worker(
    start: Callable[..., Worker], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start(1000, 0.5)
    worker.wait_for("measuring")
    with pytest.raises(StudyError, match=r"Another run \(process .*--join"):
        open_study(ADDRESS, name, IDENTITY)
    with (
        Turn(ADDRESS, patient=True) as first,
        Turn(ADDRESS, patient=False) as second,
        Turn(ADDRESS, patient=False) as elsewhere,
    ):
        first.take(name)
        with monkeypatch.context() as context:
            context.setattr(claim, "ASKING_SECONDS", 0.2)
            with pytest.raises(StudyError, match=r"Another run works on the study .* or is about to"):
                second.take(name)
        elsewhere.take("another study")
        # A worker that only asks has it for a moment, and its pulse tells who it is.
        threading.Timer(0.3, first.give).start()
        second.take(name)


@pytest.fixture
def own_server() -> Iterator[str]:
    """The address of a server that no other test uses."""
    script = Path(__file__).parents[2] / ".ci" / "postgresql"
    with subprocess.Popen(
        [str(script), "bash", "-c", 'echo "$TEST_POSTGRESQL_URL"; read -r _'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        # What ends the script's reading, and so the server.
        process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_workers_that_are_killed_at_random_moments_lose_nothing(start: Callable[..., Worker], name: str) -> None:
    generator = random.Random(SEED)
    workers = [start(100_000, 0.2, at_once) for at_once in (1, 2, 3)]
    workers[0].wait_for("measuring")
    known: dict[int, tuple[Mapping[str, Any], list[float] | None]] = {}
    for kill in range(KILLS):
        victim = workers.pop(0)
        if kill % 4:
            # The others are killed before they measure anything.
            victim.wait_for("measuring", seconds=600.0)
        time.sleep(generator.uniform(0, 0.6))
        victim.process.kill()
        victim.process.join()
        now = finished(study_of(name))
        assert {number: now[number] for number in known} == known
        known = now
        workers.append(start(100_000, 0.2, generator.randint(1, 3)))
    for worker in workers:
        worker.process.kill()
        worker.process.join()
    measured = sum(record.is_complete for record in stored_records(study_of(name)))
    start(measured + 5, 0.1).ends(measured + 5)
    stored = assert_whole(name, measured + 5)
    assert {number: finished(study_of(name))[number] for number in known} == known
    ended = sum(trial.state is OptunaState.FAIL for trial in stored)
    assert ended >= KILLS // 4
    sys.stdout.write(f"{KILLS} kills, {measured} trials measured before the last, {ended} ended by kills, ")
    sys.stdout.write(f"{sum(RETRIED_ATTRIBUTE in trial.user_attrs for trial in stored)} plans measured again, ")
    sys.stdout.write(f"{check_front(study_of(name))} points of the front\n")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the server belongs to another user")
def test_a_server_that_is_down_for_a_while_costs_no_trial(
    start: Callable[..., Worker], name: str, own_server: str
) -> None:
    engine = create_engine(own_server)
    with engine.connect() as connection:
        data = connection.execute(text("SHOW data_directory")).scalar_one()
    engine.dispose()
    tool = glob("/usr/lib/postgresql/*/bin/pg_ctl")[-1]

    def control(command: str) -> None:
        # As it was started, with a relative path.
        line = f"cd '{Path(data).parent}' && '{tool}' --pgdata=data --wait {command}"
        # The server keeps what it is given: a pipe would never end.
        nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["/bin/su", "postgres", "-s", "/bin/bash", "-c", line], check=True, cwd="/", **nowhere)

    options = (Path(data) / "postmaster.opts").read_text(encoding="utf-8").partition('"-F"')[2].replace('"', "")
    workers = [start(8, 4.0, address=own_server, silence=60) for _ in range(2)]
    workers[1].wait_for("measuring", 2)
    workers[0].wait_for("measuring", 2)
    control("--mode=fast stop")
    time.sleep(20)
    control(f"--log=log --options='-F {options}' start")
    for worker in workers:
        worker.ends(8)
        assert "The server of the study cannot be reached" in worker.said("warned")[0]
        # Nobody was taken for dead.
        assert not [line for line in worker.said("warned") if "dropped" in line]
    assert [trial.state for trial in assert_whole(name, 8, own_server)] == [OptunaState.COMPLETE] * 8


def test_a_turn_outlasts_what_a_server_allows_a_transaction(name: str) -> None:
    limited = make_url(ADDRESS).update_query_dict({"options": "-c idle_in_transaction_session_timeout=200"})
    address = limited.render_as_string(hide_password=False)
    with Turn(address, patient=True) as first, Turn(ADDRESS, patient=False) as second:
        first.take(name)
        time.sleep(0.5)
        assert not second._wait(name, second._engine, 0)
        first.give()
        second.take(name)


def end_backend(connection: Connection) -> None:
    """Have the server end a connection, as when it is restarted."""
    number = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    other = create_engine(ADDRESS)
    with other.begin() as ending:
        ending.execute(text("SELECT pg_terminate_backend(:number, 5000)"), {"number": number})
    other.dispose()


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_connections_that_are_cut_while_they_store_cost_no_trial(
    name: str, join: bool, stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sort of transaction, whether or not the server had stored what it was to by then."""
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", math.inf)
    seen: list[Event] = []
    with Turn(ADDRESS, patient=join) as turn, subscribed(seen.append):
        turn.take(name)
        study = open_study(ADDRESS, name, IDENTITY, join=join)
        study.sampler = make_sampler(3, 4, 0)
        told = heartbeat.Heartbeat(study, "none", 1, 8, worker="here" if join else "")
        workers = Workers(study, turn, BOTH_NUMBERS, told) if join else None
        turn.give()
        storage: Any = study._storage
        commits = [0]

        def cut(connection: Connection) -> None:
            commits[0] += 1
            # Of ten in a row, which are of all sorts, each in its turn.
            if commits[0] % 11 == 0:
                if stored:
                    connection.connection.driver_connection.commit()
                end_backend(connection)

        listen(storage._backend.engine, "commit", cut)
        result = search(study, ADDRESS, SPACE, Alone(Sleeper(0.0, 2)), 8, heartbeat=told, workers=workers)
    assert result.complete == 8
    assert commits[0] > 40
    assert sum("ended the connection" in event.message for event in seen if isinstance(event, Warned)) >= 3
    assert [trial.state for trial in assert_whole(name, 8)] == [OptunaState.COMPLETE] * 8


def test_a_turn_that_is_cut_is_said_and_the_search_goes_on(name: str) -> None:
    seen: list[Event] = []
    with Turn(ADDRESS, patient=True) as turn, subscribed(seen.append):
        with turn.taken(name):
            assert turn._connection is not None
            end_backend(turn._connection)
        with turn.taken(name):
            assert turn._connection is not None
    assert [event.message for event in seen if isinstance(event, Warned) and "turn" in event.message]


@pytest.mark.parametrize("join", [False, True])
def test_a_trial_costs_few_statements(name: str, join: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the line to the server."""
    monkeypatch.setattr(heartbeat, "INTERVAL_SECONDS", math.inf)
    with Turn(ADDRESS, patient=join) as turn:
        turn.take(name)
        study = open_study(ADDRESS, name, IDENTITY, join=join)
        study.sampler = make_sampler(3, 4, 0)
        told = heartbeat.Heartbeat(study, "none", 1, 30, worker="here" if join else "")
        workers = Workers(study, turn, BOTH_NUMBERS, told) if join else None
        turn.give()
        search(study, ADDRESS, SPACE, Alone(Sleeper(0.0, 1)), 10, heartbeat=told, workers=workers)
        with statements() as seen:
            search(study, ADDRESS, SPACE, Alone(Sleeper(0.0, 1)), 30, heartbeat=told, workers=workers)
    # With room for what begins and ends a search.
    assert len(seen) / 20 < (38 if join else 30)
