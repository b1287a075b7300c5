"""From nothing to a verified model on the disk and no machine, on providers and a machine of 127.0.0.1."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.integration.command import QUICK_DEMO
from tests.unit.cloud.fakes import CONTAINER_KEY, KEY, Fake, FakeRunPod, FakeVast, served
from tests.unit.cloud.sshd import Server, ssh_server, why_none

from heretic.common.integrity import check_folder

pytest.importorskip("vastai", reason="the packages of heretic[cloud] are not installed")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    # Every command is a process that imports anew, which takes minutes beside other work.
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(why_none()), reason=why_none()),
]

TOKEN = "hf_TheTokenOfTheHubThatIsGiven"  # noqa: S105 - no real one
SECONDS = 600
SMALL = tuple(part for part in QUICK_DEMO[2:] if part not in ("--n-trials", "2"))


class User:
    """Types commands, sees what they print, and looks for secrets in every process meanwhile."""

    def __init__(self, provider: str, folder: Path, environment: dict[str, str]) -> None:
        self._provider = provider
        self._folder = folder
        self._environment = environment
        self.shown = ""
        self.leaks: list[str] = []

    def __call__(self, *argv: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "heretic", "cloud", "--provider", self._provider, *argv],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        shown = done.stdout + done.stderr
        self.shown += shown
        assert done.returncode == code, shown
        assert "Traceback" not in shown
        return shown

    def look_at_processes(self, over: threading.Event) -> None:
        while not over.wait(0.2):
            for process in psutil.process_iter(["cmdline"]):
                line = " ".join(process.info["cmdline"] or [])
                self.leaks += [secret for secret in (KEY, TOKEN, CONTAINER_KEY) if secret in line]


@pytest.fixture(params=["vast", "runpod"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rented(provider: str, tmp_path: Path) -> Iterator[tuple[Fake, Server]]:
    fake: Fake = FakeVast() if provider == "vast" else FakeRunPod()
    with served(fake) as address:
        own = {
            "CONTAINER_API_KEY": f"{CONTAINER_KEY}-9000", "CONTAINER_ID": "9000", "VAST_URL": address,
        } if provider == "vast" else {
            "RUNPOD_API_KEY": f"{CONTAINER_KEY}-pod000x", "RUNPOD_POD_ID": "pod000x", "RUNPOD_URL": f"{address}/v2",
        }  # fmt: skip
        with ssh_server(tmp_path / "server", own) as server:
            fake.ssh = ("127.0.0.1", server.port)
            fake.authorized = server.folder / "authorized_keys"
            yield fake, server


@pytest.fixture
def user(provider: str, rented: tuple[Fake, Server], tmp_path: Path) -> Iterator[User]:
    fake, server = rented
    folder = tmp_path / "here"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("HERETIC_")}
    environment |= {
        "VAST_URL": fake.address, "RUNPOD_URL": f"{fake.address}/v2", "HF_TOKEN": TOKEN,
        "CLOUD_SSH_KEY": str(server.key), "CLOUD_WORKSPACE": str(tmp_path / "workspace"),
    }  # fmt: skip
    # As a person has it; the models go to a folder with a space in its name.
    (folder / ".env").write_text(f"VAST_API_KEY={KEY}\nRUNPOD_API_KEY={KEY}\nLOCAL_MODELS_DIR='my models'\n")
    one, over = User(provider, folder, environment), threading.Event()
    watcher = threading.Thread(target=one.look_at_processes, args=(over,))
    watcher.start()
    yield one
    over.set()
    watcher.join()
    assert one.leaks == []


def until_trials(user: User, workspace: Path) -> None:
    """Wait until a trial is finished."""
    for _ in range(300):
        shown = user("progress")
        if "Trials" in shown and "Trials         0" not in shown:
            return
        assert "the run ended" not in shown, shown
        time.sleep(0.5)
    raise AssertionError((workspace / "job" / "run.log").read_text())


def kill_and_resume(user: User, server: Server, workspace: Path) -> None:
    """A run is killed, with the connection, and goes on with the study that was fetched."""
    assert "whether you are connected or not" in user("run", "demo", *SMALL, "--n-trials", "400", "--hf-token")
    until_trials(user, workspace)
    assert "A run goes on there" in user("run", "demo", code=1)
    assert "A run goes on there" in user("terminate", "--yes", code=1)
    server.cut()
    assert "It cannot be seen whether work would be lost." in user("terminate", "--yes", code=1)
    server.start()
    os.kill(int((workspace / "job" / "pid").read_text().split()[0]), signal.SIGKILL)
    assert "exit code -9" in user("watch", "--interval", "1", code=1)
    assert "Not fetched yet" not in user("progress")
    (workspace / "run" / "heretic_study.db").unlink()
    shown = user("run", "demo", *SMALL, "--n-trials", "3", "--resume", "--destroy-when-done")
    assert "was put onto the machine" in shown


def test_from_an_offer_to_a_verified_model_and_no_machine(
    user: User, rented: tuple[Fake, Server], tmp_path: Path, provider: str
) -> None:
    fake, server = rented
    workspace, here = tmp_path / "workspace", tmp_path / "here"
    assert "Ready: " in user("create", "RTX_4090", "--model", "demo", "--yes")
    assert "run setup first" in user("progress", code=1)
    assert "is set up" in user("setup")

    if provider == "vast":
        kill_and_resume(user, server, workspace)
    else:
        user("run", "demo", *SMALL, "--n-trials", "3", "--destroy-when-done")

    shown = user("watch", "--interval", "1")
    assert "the run ended with exit code 0" in shown
    assert "download' fetches the model" in shown
    assert "Saved          demo-heretic" in user("progress")
    assert "Not fetched yet: demo-heretic" in user("terminate", "--yes", code=1)
    assert "demo-heretic: " in user("models")
    shown = user("download")
    assert "every file is as in the manifest" in shown
    assert "is gone; it cost at most" in shown
    assert check_folder(here / "my models" / "demo-heretic") == []
    assert fake.machines == {}
    assert fake.ever == ["9000" if provider == "vast" else "pod000x"]
    # The machine gave itself back, by its own key.
    assert [request.key for request in fake.asked if request.method == "DELETE"] == [f"{CONTAINER_KEY}-{fake.ever[0]}"]

    secrets = (KEY, TOKEN, CONTAINER_KEY)
    assert not [secret for secret in secrets if secret in user.shown]
    for path in (*workspace.rglob("*"), *here.rglob("*")):
        if path.is_file() and path.name != ".env" and "site-packages" not in path.parts:
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], path
