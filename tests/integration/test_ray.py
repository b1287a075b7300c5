"""Workers of Ray for real: they share GPUs, die in mid-batch and with their machine, and Ray itself dies.

One cluster serves all; GPUs are pretended, Ray only counts them. Ray takes half a minute to start on a busy machine.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import TrialState as OptunaState
from tests.integration.command import QUICK_DEMO
from tests.unit.export.other_programs import install_python
from tests.unit.test_session import prepared, settings

from heretic.common.errors import ConfigurationError
from heretic.observability.events import Event, TrialFinished, Warned, WorkerReady, subscribed
from heretic.results.gate import Gate
from heretic.run.workbench import Workbench
from heretic.search.crew import Alone, Batch, Crew
from heretic.search.loop import search
from heretic.search.pulse import Member
from heretic.search.records import stored_records
from heretic.search.sampler import make_sampler
from heretic.search.storage import open_study
from heretic.workers.cluster import crew_of
from heretic.workers.placement import Placement
from heretic.workers.worker import Assignment, Measurer, Ready, Report

pytestmark = [pytest.mark.slow, pytest.mark.integration]
LIMIT = 600.0
"""Seconds after which something hangs."""


NEEDED = ("attrs", "jsonschema", "jsonschema-specifications", "msgpack", "protobuf", "referencing", "rpds-py")
"""What Ray needs beside the packages of the tests."""


@pytest.fixture(scope="module", autouse=True)
def ray_installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray in a folder of its own, for this process and those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        if find_spec("ray") is None:
            folder = tmp_path_factory.mktemp("ray")
            install_python(folder, "ray>=2.52,<3", *NEEDED)
            patch.setattr(sys, "path", [*sys.path, str(folder)])
            patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(folder)))))
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    started.shutdown()


@pytest.fixture(scope="module")
def bench() -> Workbench:
    evaluated = {"dataset": "bundled:demo/target", "split": "evaluation", "limit": 80}
    asked = settings(normalization="none", candidates=2)
    return prepared(asked.model_copy(update={"bad_evaluation_prompts": type(asked.bad_prompts)(**evaluated)}))


class Killer:
    """Ends workers by SIGKILL as soon as one is found that a condition holds for, so many times."""

    def __init__(self, crew: Crew, when: Callable[[Member], bool], times: int, pause: float = 0.0) -> None:
        self.killed: list[int] = []
        self._crew, self._when, self._times, self._pause = crew, when, times, pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while len(self.killed) < self._times and not self._ended.wait(0.02):
            for member in self._crew.members:
                if member.pid not in self.killed and member.trials and self._when(member):
                    os.kill(member.pid, signal.SIGKILL)
                    self.killed.append(member.pid)
                    self._ended.wait(self._pause)
                    break


def searched(
    tmp_path: Path, bench: Workbench, placement: Placement, n_trials: int, when: Callable[[Member], bool], times: int
) -> tuple[optuna.Study, list[Event], Killer]:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = open_study(url, "heretic", bench.identity)
    study.sampler = make_sampler(0, 4, 0)
    seen: list[Event] = []
    with subscribed(seen.append), crew_of(bench, placement) as crew, Killer(crew, when, times, 0.5) as killer:
        result = search(study, url, bench.space, crew, n_trials)
    assert result.complete == n_trials
    trials = study.get_trials(deepcopy=False)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    states = Counter(trial.state for trial in trials)
    assert states[OptunaState.COMPLETE] == n_trials
    assert states[OptunaState.RUNNING] == states[OptunaState.WAITING] == 0
    told = [event.record.number for event in seen if isinstance(event, TrialFinished)]
    assert sorted(told) == list(range(len(trials)))
    return study, seen, killer


def test_a_worker_that_is_killed_in_mid_batch_costs_no_trial(tmp_path: Path, cluster: Any, bench: Workbench) -> None:
    placement = Placement(3, 0.5, 1, cluster.address)
    study, seen, killer = searched(tmp_path, bench, placement, 10, lambda member: member.worker == "worker 2", 1)
    assert len(killer.killed) == 1
    assert [event.worker for event in seen if isinstance(event, WorkerReady)].count("worker 2") >= 1
    assert any("worker 2 died" in event.message for event in seen if isinstance(event, Warned))
    # They measured what this process measures.
    records = [record for record in stored_records(study) if record.is_complete]
    numbers, plans = [record.number for record in records], [record.plan for record in records]
    alone = Alone(bench.engine)
    alone.start(Batch(tuple(numbers), tuple(plans), Gate()))
    (here,) = alone.finished()
    assert [measurement.scores for measurement in here.measurements] == [record.scores for record in records]


def test_a_plan_that_two_workers_die_of_is_failed(tmp_path: Path, cluster: Any, bench: Workbench) -> None:
    placement = Placement(2, 1.0, 1, cluster.address)
    study, _seen, killer = searched(tmp_path, bench, placement, 8, lambda member: 3 in member.trials, 2)
    assert len(killer.killed) == 2
    failed = [record for record in stored_records(study) if record.is_failed]
    assert [(record.number, record.reason) for record in failed] == [(3, "2 workers died while they measured it")]


def test_a_machine_that_goes_takes_no_trial_with_it(tmp_path: Path, cluster: Any, bench: Workbench) -> None:
    node = cluster.add_node(num_cpus=2, num_gpus=2, object_store_memory=100_000_000)
    gone: list[int] = []

    def lose(member: Member) -> bool:
        if not gone and 6 in member.trials:
            gone.append(member.pid)
            cluster.remove_node(node, allow_graceful=False)
        return False

    searched(tmp_path, bench, Placement(2, 2.0, 1, cluster.address), 14, lose, 1)
    assert gone


def test_kills_at_random_lose_nothing(tmp_path: Path, cluster: Any, bench: Workbench) -> None:
    kills, dice = int(os.environ.get("TEST_KILLS", "10")), random.Random(int(os.environ.get("TEST_SEED", "0")))
    placement = Placement(3, 0.5, 1, cluster.address)
    _study, seen, killer = searched(tmp_path, bench, placement, 4 * kills, lambda _member: dice.random() < 0.05, kills)
    assert len(killer.killed) >= kills // 2
    assert sum("died" in event.message for event in seen if isinstance(event, Warned)) == len(killer.killed)


@pytest.mark.parametrize(("gpus", "workers", "seen"), [(2.0, 2, ["0,1", "2,3"]), (0.5, 4, ["0", "0", "1", "1"])])
def test_each_worker_sees_its_own_gpus_alone(
    gpus: float, workers: int, seen: list[str], bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four pretended ones: Ray gives them out, and CUDA would find no others."""

    class Says(Measurer):
        def prepare(self, assignment: Assignment) -> Report:
            report = super().prepare(assignment)
            assert isinstance(report.answer, Ready)
            member = replace(report.answer.member, device=os.environ["CUDA_VISIBLE_DEVICES"])
            return replace(report, answer=replace(report.answer, member=member))

    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setattr("heretic.workers.cluster.Measurer", Says)
    head = {"num_cpus": 4, "num_gpus": 4, "object_store_memory": 100_000_000, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    try:
        with crew_of(bench, Placement(workers, gpus, 1, started.address)) as crew:
            while len(crew.members) < workers:
                crew.finished()
            assert sorted(member.device for member in crew.members) == seen
    finally:
        ray.shutdown()
        started.shutdown()


def test_more_workers_than_there_is_room_for_are_refused(cluster: Any, bench: Workbench) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"the Ray cluster has .* use --workers"),
        crew_of(bench, Placement(64, 1.0, 1, cluster.address)),
    ):
        pass


def start(folder: Path, *further: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "heretic", *QUICK_DEMO, "--n-trials", "400", "--candidates", "1", *further]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(process: "subprocess.Popen[str]", beginning: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(beginning):
            return
    raise AssertionError("".join(seen))


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize("victim", ["lead", "gcs_server"])
def test_where_the_lead_or_ray_itself_dies_the_same_command_goes_on(tmp_path: Path, victim: str) -> None:
    # A trial has to take long enough to be met.
    longer = ("--bad-evaluation-prompts.limit", "100", "--good-evaluation-prompts.limit", "100")
    process = start(tmp_path, *longer, "--workers", "2")
    wait_for(process, "trial ")
    children = family(process.pid)
    if victim == "lead":
        process.kill()
    else:
        next(child for child in children if child.name() == "gcs_server").kill()
    process.communicate(timeout=LIMIT)
    assert process.returncode != 0
    # Some of Ray's helpers look only now and then whether it is still there.
    _gone, alive = psutil.wait_procs(children, LIMIT)
    assert not alive
    study = optuna.load_study(study_name="heretic_study", storage=f"sqlite:///{tmp_path / 'heretic_study.db'}")
    before = {record.number: record for record in stored_records(study) if not record.is_failed}
    assert before
    again = start(tmp_path, *longer, "--n-trials", str(len(before) + 2))
    again.communicate(timeout=LIMIT)
    study = optuna.load_study(study_name="heretic_study", storage=f"sqlite:///{tmp_path / 'heretic_study.db'}")
    after = {record.number: record for record in stored_records(study) if not record.is_failed}
    assert len(after) >= len(before) + 2
    assert {number: after[number] for number in before} == before
    assert not study.get_trials(states=(OptunaState.RUNNING, OptunaState.WAITING))


def test_status_lists_the_workers_of_a_run(tmp_path: Path) -> None:
    longer = ("--bad-evaluation-prompts.limit", "100", "--good-evaluation-prompts.limit", "100")
    process = start(tmp_path, *longer, "--workers", "2")
    try:
        wait_for(process, "trial ")
        ends = time.monotonic() + LIMIT
        workers: list[dict[str, Any]] = []
        while len(workers) < 2 and time.monotonic() < ends:
            shown = subprocess.run(
                [sys.executable, "-m", "heretic", "status", "--json"], cwd=tmp_path, capture_output=True
            )
            workers = json.loads(shown.stdout)["workers"]
        assert [worker["worker"] for worker in workers] == ["worker 1", "worker 2"]
        assert {worker["run"] for worker in workers} == {"searching"}
        assert {worker["pid"] for worker in workers} <= {child.pid for child in family(process.pid)}
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=LIMIT)[0]
        assert "all of them are kept" in text
    finally:
        process.kill()
        process.wait()
