"""What runs on the rented machine, without one."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.cloud.fakes import CONTAINER_KEY, FakeRunPod, FakeVast, served
from tests.unit.search.studies import IDENTITY

from heretic.cloud import job
from heretic.cloud.machines import Machine, State
from heretic.cloud.work import RunRequest, run_arguments
from heretic.interface.cloud_lines import job_text, look_rows
from heretic.search.storage import open_study

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="rented machines have /proc")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run" / "models").mkdir(parents=True)
    (tmp_path / "job").mkdir()
    return tmp_path


def wait_for(folder: Path, state: str) -> dict[str, object]:
    for _ in range(600):
        found = job.state_of(folder)
        if found["state"] == state:
            return found
        time.sleep(0.1)
    raise AssertionError((folder / "job" / job.LOG).read_text())


def save_model(folder: Path, name: str = "m", content: str = "{}") -> None:
    path = folder / "run" / "models" / name
    path.mkdir(exist_ok=True)
    (path / job.MANIFEST).write_text(content)


def make_study(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "run" / job.STUDY)) as connection:
        connection.execute("create table trials (number)")
        connection.execute("insert into trials values (7)")
        connection.commit()


def test_a_run_outlives_whoever_began_it(folder: Path) -> None:
    assert job.state_of(folder)["state"] == "none"
    request = RunRequest(("--version",), {"HF_TOKEN": "hf_secretSecretSecretSecret"}, max_hours=1.0).to_json()
    assert job.start(folder, request)["pid"] > 0
    found = wait_for(folder, "finished")
    assert found["exit_code"] == 0
    assert "heretic 0" in (folder / "job" / job.LOG).read_text()
    for path in (folder / "job").iterdir():
        assert "hf_secret" not in path.read_text()


def test_a_killed_run_is_told_from_a_finished_one(folder: Path) -> None:
    job._write(folder / "job" / "job", json.dumps({"started": 1.0}))
    job._write(folder / "job" / "supervisor", f"{os.getpid()} 12345")
    # The number is in use again, by another process.
    assert job.state_of(folder)["state"] == "gone"
    job._write(folder / "job" / "supervisor", job._marked(os.getpid()))
    assert job.state_of(folder)["state"] == "running"
    assert job.start(folder, {}) == {"refused": "a run goes on"}
    job._write(folder / "job" / "exit_code", "-9")
    assert job.state_of(folder) == {"started": 1.0, "state": "finished", "exit_code": -9, "left": None}


def test_time_that_is_over_ends_a_run(folder: Path) -> None:
    request = {"arguments": ["demo", "--n-trials", "1000"], "max_seconds": 0.01}
    assert job.supervise(folder, request) == 0
    assert int(job._text(folder / "job" / "exit_code")) in (-signal.SIGTERM, 143)


def test_what_is_nowhere_else_is_known(folder: Path) -> None:
    assert job.unfetched(folder) == []
    save_model(folder)
    (folder / "run" / "models" / "being saved").mkdir()
    make_study(folder)
    assert job.unfetched(folder) == ["m", job.STUDY]
    (model,) = job.models(folder)
    copied = job.study(folder, {})
    with closing(sqlite3.connect(copied["path"])) as copy:
        assert copy.execute("select number from trials").fetchall() == [(7,)]
    job.fetched(folder, {"study": copied["changed"]})
    assert job.unfetched(folder) == ["m"]
    job.fetched(folder, {"models": {"m": model["manifest"]}})
    assert job.unfetched(folder) == []
    # Saved again.
    save_model(folder, content='{"new": 1}')
    assert job.unfetched(folder) == ["m"]


def test_a_study_on_a_server_is_read_by_the_address_that_the_run_was_given(folder: Path, tmp_path: Path) -> None:
    """The address stands in the run's own environment alone; once that is gone it is not known."""
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    study = open_study(url, "mine", IDENTITY)
    study.ask()
    told = {"arguments": ["--model", "demo", "--study-name", "mine"], "on_server": True, "started": 1.0}
    job._write(folder / "job" / "job", json.dumps(told))
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, "HERETIC_STORAGE": url}
    ) as run:
        job._write(folder / "job" / "pid", job._marked(run.pid))
        found = job.look(folder, {})
        run.communicate(b"\n")
    assert found["problem"] == ""
    assert found["status"]["trials"]["running"] == 1
    assert url not in "".join(path.read_text() for path in (folder / "job").iterdir())
    gone = job.look(folder, {})
    assert gone["status"] is None
    assert "on a server" in gone["problem"]


@pytest.fixture(params=["vast", "runpod"])
def provider(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVast | FakeRunPod]:
    """A provider with one machine, whose own key the environment holds."""
    fake: FakeVast | FakeRunPod = FakeVast() if request.param == "vast" else FakeRunPod()
    with served(fake) as address:
        fake.machines["9000"] = {"id": "9000", "actual_status": "running", "status": "RUNNING", "looks": 0}
        own = {"CONTAINER_API_KEY": "", "RUNPOD_API_KEY": ""}
        if request.param == "vast":
            own |= {"CONTAINER_API_KEY": f"{CONTAINER_KEY}-9000", "CONTAINER_ID": "9000", "VAST_URL": address}
        else:
            own |= {"RUNPOD_API_KEY": f"{CONTAINER_KEY}-9000", "RUNPOD_POD_ID": "9000", "RUNPOD_URL": f"{address}/v2"}
        for name, value in own.items():
            monkeypatch.setenv(name, value)
        yield fake


def test_a_machine_goes_once_all_is_fetched(folder: Path, provider: FakeVast | FakeRunPod) -> None:
    save_model(folder)
    waited: list[float] = []

    def fetch_meanwhile(seconds: float) -> None:
        assert "9000" in provider.machines
        waited.append(seconds)
        if len(waited) == 3:
            job.fetched(folder, {"models": {"m": job.models(folder)[0]["manifest"]}})

    assert job.can_leave(folder, {}) == {"can": True}
    job.leave(folder, "destroy", 3600.0, fetch_meanwhile, lambda: float(len(waited)))
    assert provider.machines == {}
    assert job._json(folder / "job" / "left") == {"action": "destroy", "problem": ""}


@pytest.mark.parametrize("failed", [False, True])
def test_a_machine_that_nobody_comes_to_or_that_failed_is_stopped_and_keeps_its_disk(
    folder: Path, provider: FakeVast | FakeRunPod, failed: bool
) -> None:
    if not failed:
        save_model(folder)
    hours: list[float] = []
    job.leave(folder, "destroy", 3.0, hours.append, lambda: float(len(hours)), failed)
    assert len(hours) == 3
    (machine,) = provider.machines.values()
    assert "stopped" in machine.values() or "EXITED" in machine.values()
    assert job._json(folder / "job" / "left")["action"] == "stop"


def test_a_machine_without_a_key_of_its_own_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_own_environment", dict)
    assert job.can_leave(folder, {}) == {"can": False}
    waits: list[float] = []
    job.leave(folder, "stop", 0.0, waits.append)
    assert len(waits) == job.LEAVE_ATTEMPTS
    assert "gave this machine no key" in job._json(folder / "job" / "left")["problem"]


def test_what_is_shown_of_a_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "key-that-a-log-repeats")
    save_model(folder, "it's\x1b[2J")
    (folder / "job" / job.LOG).write_text("one\nError: key-that-a-log-repeats\n")
    job._write(folder / "job" / "job", json.dumps({"started": 1.0, "arguments": []}))
    job._write(folder / "job" / "exit_code", "1")
    found = job.look(folder, {})
    found["status"] = {
        "trials": {"complete": 3, "stopped": 1, "failed": 0}, "finished": 4, "n_trials": 10, "seconds_per_trial": 60.0,
        "remaining_seconds": 3600.0, "memory": {"GPU 0": {"used_bytes": 10**9, "available_bytes": 10**9}},
        "front": [{"trial": 2, "counted": "refusals", "count": 1, "baseline": 9, "kl": 0.01}],
    }  # fmt: skip
    now = time.time()
    machine = Machine("9", "heretic:x", State.RUNNING, "running", "H100", 2, 2.0, 100, now - 7200)
    lines = "\n".join(line for row in look_rows(machine, found, now) for line in row.lines(row.label, 15, None))
    for text in (
        "4 of 10 finished: 3 complete, 1 stopped",
        "at most $4.00 so far",
        "about $6.00",
        "1 of 9",
        "exit code 1",
    ):
        assert text in lines
    assert "key-that-a-log-repeats" not in lines
    assert "\x1b" not in lines
    assert "the run ended with exit code 1" in job_text(found)


def test_a_run_that_nobody_sits_at_saves_what_it_finds() -> None:
    given, environment = run_arguments("Qwen/Qwen3-4B", ("--n-trials", "9"), 1)
    assert given == (
        *("--model", "Qwen/Qwen3-4B", "--auto-select", "true", "--auto-select-path", "models/Qwen3-4B-heretic"),
        *("--log-file", "heretic.log", "--n-trials", "9"),
    )
    assert environment == {}
    given, environment = run_arguments("demo", ("--storage", "postgresql://me:pass@h/s", "--join"), 4)
    assert environment == {"HERETIC_STORAGE": "postgresql://me:pass@h/s"}
    assert not [part for part in given if "pass" in part or part == "--workers"]
    assert run_arguments("demo", (), 2)[0][-4:-2] == ("--workers", "auto")
    assert "models/x-heretic" in run_arguments("owner/x", (), 1)[0]
