"""`heretic status`: its arguments, and what it prints."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console
from tests.unit.search.studies import IDENTITY, SPACE, record, url_of

from heretic.commands.base import Command
from heretic.commands.status import COMMAND, StatusArguments, run
from heretic.common.errors import ConfigurationError, StudyError
from heretic.interface.printer import Printer
from heretic.observability.events import StepStarted
from heretic.observability.steps import step
from heretic.search.claim import claimed
from heretic.search.heartbeat import Heartbeat, preparation_told
from heretic.search.records import tell
from heretic.search.storage import claim_file, open_study


def test_how_often_to_look() -> None:
    assert COMMAND.read(["--watch"]) == StatusArguments(watch=True)
    assert COMMAND.read(["--watch", "--interval", "0.5"]) == StatusArguments(watch=True, interval=0.5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["here", "there"], "Only one path can be named, but 2 are; run 'heretic status --help'"),
        (["here", "--storage", "sqlite:///x.db"], "both name the study's database"),
        (["--storage", "file.db"], "storage must be a database URL"),
        (["--config", "gone.toml"], "There is no configuration file gone.toml"),
        (["--interval", "5"], "add --watch"),
        (["--watch", "--interval", "0"], "--interval must be a number of seconds from 0.2 to 86400, but is 0"),
        (["--watch", "--interval", "x"], "--interval must be a number of seconds from 0.2 to 86400, but is x"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_one_sentence(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        COMMAND(argv)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return url_of(tmp_path / "study.db")


@pytest.fixture
def study(url: str) -> optuna.Study:
    study = open_study(url, "heretic", IDENTITY)
    for entry in (record(0, 12, 0.1), record(1, 3, 0.5)):
        trial = study.ask()
        SPACE.suggest(trial)
        tell(study, trial, entry)
    return study


def printed_by(command: Command[Any], *argv: str, terminal: bool = False, width: int = 80) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    assert command(argv, Printer(console)) == 0
    return file.getvalue()


def printed(*argv: str, terminal: bool = False, width: int = 80) -> str:
    return printed_by(COMMAND, *argv, terminal=terminal, width=width)


def test_a_study_is_shown_in_labelled_lines(url: str, study: optuna.Study) -> None:
    Heartbeat(study, "demo", 16, 10).search_started(2, 10)
    output = printed("--storage", url, "--study-name", "heretic", terminal=True)
    assert output.isascii()
    # The study's path may be as long as it likes.
    assert max(len(line) for line in output.splitlines() if "sqlite" not in line) <= 80
    for fact in (
        "Model          demo",
        "2 of 10 finished: 2 complete",
        "Best           trial 2, refusals 3/100, KL ",
        "original",
        "host",
    ):
        assert fact in output


def test_a_run_that_checks_its_front_has_finished_its_search_and_goes_on(url: str, study: optuna.Study) -> None:
    heartbeat = Heartbeat(study, "demo", 16, 10)
    heartbeat.search_ended(interrupted=False)
    heartbeat(StepStarted("checking the front", (), 1, 4, "prompts", "", 10.0, 30.0))
    lines = printed("--storage", url, "--study-name", "heretic").splitlines()
    assert any(line.startswith("Run") and "and goes on" in line for line in lines)
    assert "Step           checking the front, 1/4 prompts, 0:30 left" in lines


def test_a_run_that_prepares_is_shown_before_it_has_made_its_study(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    asked = ("--storage", url, "--study-name", "heretic")
    file = claim_file(url, "heretic")
    with claimed(url, "heretic"):
        with preparation_told(file, "demo", 10, ""), step("preparing"), step("loading weights", 56, "tensors"):
            lines = printed(*asked).splitlines()
            told = json.loads(printed(*asked, "--json"))
            with pytest.raises(StudyError, match="There is no study file"):
                printed("--storage", url, "--study-name", "another")
        study = open_study(url, "heretic", IDENTITY)
        heartbeat = Heartbeat(study, "demo", 16, 10)
        heartbeat.search_started(0, 10)
        assert json.loads(printed(*asked, "--json"))["run"] == "searching"
        # A resumed run prepares again.
        heartbeat.search_ended(interrupted=False)
        with preparation_told(file, "demo", 10, ""), step("preparing"):
            assert json.loads(printed(*asked, "--json"))["run"] == "preparing"
    assert (told["run"], told["finished"], told["step"]) == ("preparing", 0, "preparing: loading weights, 0/56 tensors")
    assert any(line.startswith("Run") and "prepares its first trial" in line for line in lines)
    assert "Step           preparing: loading weights, 0/56 tensors" in lines


def test_a_claim_that_a_dead_run_left_behind_tells_nothing(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    file = claim_file(url, "heretic")
    assert file is not None
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    Heartbeat(file, "demo", 0, 10)
    told = json.loads(file.read_text(encoding="ascii"))
    for left in ("", "{", json.dumps({**told, "pid": ended.pid})):
        file.write_text(left, encoding="ascii")
        with pytest.raises(StudyError, match="There is no study file"):
            printed("--storage", url, "--study-name", "heretic")


def test_json_is_one_line_whose_keys_the_documentation_names(url: str, study: optuna.Study) -> None:
    text = printed("--storage", url, "--study-name", "heretic", "--json")
    (line,) = text.splitlines()
    page = (Path(__file__).parents[3] / "docs" / "watching.md").read_text(encoding="utf-8")
    for key in json.loads(line):
        assert f"`{key}`" in page


def test_watching_ends_with_the_run(url: str, study: optuna.Study) -> None:
    heartbeat = Heartbeat(study, "demo", 16, 10)
    heartbeat.search_started(2, 10)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            heartbeat.search_ended(interrupted=False)

    file = io.StringIO()
    arguments = StatusArguments(url, "heretic", json=True, watch=True, interval=3.0)
    run(arguments, Printer(Console(file=file)), sleep)
    assert [json.loads(line)["run"] for line in file.getvalue().splitlines()] == ["searching", "searching", "finished"]
    assert slept == [3.0, 3.0]


def test_of_several_studies_the_one_that_runs_is_shown_and_all_are_listed(
    url: str, study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Heartbeat(study, "demo", 16, 10).search_ended(interrupted=False)
    running = Heartbeat(open_study(url, "second", IDENTITY), "demo", 16, 10)
    running.search_started(0, 10)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(f'storage = "{url_of(Path("study.db"))}"\n', encoding="utf-8")
    every = [{"study": "heretic", "run": "finished"}, {"study": "second", "run": "searching"}]
    for named in ([], [str(tmp_path)], [str(tmp_path / "study.db")], ["--storage", url]):
        told = json.loads(printed(*named, "--json"))
        assert (told["study"], told["run"], told["studies"]) == ("second", "searching", every), named
        assert json.loads(printed(*named, "--study-name", "heretic", "--json"))["study"] == "heretic"
    lines = printed(str(tmp_path / "study.db"))
    assert "heretic (finished)" in lines
    assert "second (searching)" in lines
    running.search_ended(interrupted=True)
    # None runs, and none has the usual name: the newest.
    assert json.loads(printed("study.db", "--json"))["study"] == "second"
    with pytest.raises(StudyError, match="There is no study file or folder gone"):
        COMMAND(["gone"])


def test_a_path_too_long_for_a_file_is_not_there() -> None:
    with pytest.raises(StudyError, match="There is no study file or folder"):
        COMMAND(["a" * 5000])
