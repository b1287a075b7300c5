"""A study on a database server: claimed by its run's pulse, resumed after a kill, watched, and its password kept."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from sqlalchemy.engine import URL, make_url
from tests.integration.command import QUICK_DEMO, Command, saving_to

ADDRESS = os.environ.get("TEST_POSTGRESQL_URL", "")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not ADDRESS,
        reason="there is no server: TEST_POSTGRESQL_URL has to hold its URL, e.g. "
        "postgresql+psycopg://user:password@localhost/database (see .ci/run)",
    ),
]


@pytest.fixture
def url() -> URL:
    return make_url(ADDRESS)


@pytest.fixture
def status(heretic: Command, tmp_path: Path, name: str) -> Callable[[], dict]:
    def look() -> dict:
        result = heretic(tmp_path, "status", "--json", "--storage", ADDRESS, "--study-name", name)
        assert_no_password(result.output, result.errors)
        return json.loads(result.output) if result.code == 0 else {"finished": 0}

    return look


@pytest.fixture
def name() -> str:
    return f"test-{uuid.uuid4().hex}"


def assert_no_password(*texts: str) -> None:
    password = make_url(ADDRESS).password
    assert password
    assert not [text for text in texts if password in text]


def test_a_study_on_a_server(heretic: Command, tmp_path: Path, name: str, status: Callable[[], dict]) -> None:
    study = ("--storage", ADDRESS, "--study-name", name, "--candidates", "1")
    many = (*QUICK_DEMO, "--n-trials", "2000", *study, *saving_to("out"), "--log-file", "heretic.log")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HERETIC_")}
    with (tmp_path / "first").open("w") as output:
        first = subprocess.Popen(
            [sys.executable, "-m", "heretic", *many],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        ends = time.monotonic() + 300
        while (seen := status())["finished"] < 3:
            assert first.poll() is None, (tmp_path / "first").read_text()
            assert time.monotonic() < ends
            time.sleep(0.2)
        assert (seen["run"], seen["pid"]) == ("searching", first.pid)
        second = heretic(tmp_path, *many)
        second.assert_one_sentence("Another run", str(first.pid), "works on the study")
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    gone = status()
    assert gone["run"] == "gone"
    finished = gone["finished"] + 3
    resumed = heretic(tmp_path, *QUICK_DEMO, "--n-trials", str(finished), *study, *saving_to("out"))
    resumed.assert_done()
    assert "resumed" in resumed.output
    again = status()
    assert (again["run"], again["finished"]) == ("finished", finished)
    assert (again["trials"]["running"], again["trials"]["waiting"]) == (0, 0)
    # The one that was being measured was ended, and its plan tried again.
    assert again["trials"]["failed"] <= 1
    heretic(tmp_path, "verify", "out").assert_done()
    assert_no_password(second.output, second.errors, resumed.output, resumed.errors)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert_no_password(path.read_bytes().decode(errors="replace"))


def test_a_study_moves_to_a_server_and_back(heretic: Command, tmp_path: Path, name: str) -> None:
    there, back = f"sqlite:///{tmp_path}/there.db", f"sqlite:///{tmp_path}/back.db"
    heretic(tmp_path, *QUICK_DEMO, "--storage", there, "--study-name", name, *saving_to("out")).assert_done()
    for source, target in ((there, ADDRESS), (ADDRESS, back)):
        moved = heretic(tmp_path, "migrate", source, target, "--study-name", name)
        moved.assert_done()
        assert_no_password(moved.output, moved.errors)
    again = heretic(tmp_path, "migrate", there, ADDRESS, "--study-name", name)
    again.assert_one_sentence(f"There is a study {name} in postgresql", "already")
    assert_no_password(again.output, again.errors)
    one, other = (optuna.load_study(study_name=name, storage=url).get_trials(deepcopy=False) for url in (there, back))
    assert [(trial.values, trial.params, trial.user_attrs) for trial in one] == [
        (trial.values, trial.params, trial.user_attrs) for trial in other
    ]
    resumed = heretic(tmp_path, *QUICK_DEMO, "--n-trials", "3", "--storage", back, "--study-name", name)
    assert "resumed" in resumed.output


def test_the_password_may_stand_in_a_file(heretic: Command, tmp_path: Path, url: URL, name: str) -> None:
    file = tmp_path / "pgpass"
    file.write_text(f"{url.host}:{url.port}:*:{url.username}:{url.password}\n", encoding="utf-8")
    file.chmod(0o600)
    without = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, {"passfile": str(file)})
    storage = without.render_as_string()
    assert_no_password(storage)
    study = ("--storage", storage, "--study-name", name, "--join")
    done = heretic(tmp_path, *QUICK_DEMO, "--n-trials", "1", *study, *saving_to("out"))
    done.assert_done()
    assert str(file) not in done.output
    assert_no_password(done.output, done.errors)
    # libpq itself warns of a file that others may read, and takes none from there.
    file.chmod(0o644)
    refused = heretic(tmp_path, "status", "--storage", storage)
    assert refused.code == 2
    assert "password file" in refused.errors
    assert "did not accept the user or the password" in refused.errors.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.set(password="another-Passw0rd"), ("did not accept", "password")),  # noqa: S106 - no real one
        (lambda url: url.set(port=1), ("cannot be reached",)),
        (lambda url: url.set(database="no such database"), ("no such database", "does not exist")),
    ],
    ids=["password", "port", "database"],
)
def test_a_server_that_cannot_be_used(
    heretic: Command, tmp_path: Path, url: URL, change: Callable[[URL], URL], words: tuple[str, ...]
) -> None:
    storage = change(url).render_as_string(hide_password=False)
    result = heretic(tmp_path, "status", "--storage", storage)
    result.assert_one_sentence(*words)
    assert "another-Passw0rd" not in result.errors
    assert_no_password(result.errors)
