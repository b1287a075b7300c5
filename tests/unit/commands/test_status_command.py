"""`heretic status`: its arguments, and what it prints."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from rich.console import Console
from tests.unit.search.studies import IDENTITY, SPACE, record, url_of

from heretic.commands.status_arguments import StatusArguments, read_status_arguments
from heretic.commands.status_command import run_status
from heretic.common.errors import ConfigurationError
from heretic.config.load import load_settings
from heretic.search.heartbeat import Heartbeat
from heretic.search.storage import open_study, tell


def read(*argv: str, folder: Path, environment: Mapping[str, str] | None = None) -> StatusArguments:
    return read_status_arguments(argv, environment or {}, folder)


def test_storage_and_name_are_those_of_a_run(tmp_path: Path) -> None:
    assert read(folder=tmp_path) == StatusArguments("sqlite:///heretic_study.db", "heretic_study")
    # What is wrong with the rest of the file is no reason not to look.
    (tmp_path / "config.toml").write_text('study_name = "file"\nstorage = "sqlite:///file.db"\nn_trials = "many"\n')
    (tmp_path / "other.toml").write_text('[heretic]\nstudy_name = "other"\n')
    assert read(folder=tmp_path) == StatusArguments("sqlite:///file.db", "file")
    assert read("--config", "other.toml", folder=tmp_path).study_name == "other"
    environment = {"HERETIC_STUDY_NAME": "environment"}
    assert read(folder=tmp_path, environment=environment).study_name == "environment"
    given = read("--study-name", "line", "--storage=mysql://host/db", folder=tmp_path, environment=environment)
    assert given == StatusArguments("mysql://host/db", "line")


def test_how_often_to_look(tmp_path: Path) -> None:
    assert read("--watch", folder=tmp_path).interval == 5
    assert read("--watch", "--interval", "0.5", "--json", folder=tmp_path).interval == 0.5


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--jsno"], "Unknown option --jsno; did you mean --json?"),
        (["demo"], "'demo' is no option of heretic status"),
        (["--storage", "file.db"], "storage must be a database URL"),
        (["--study-name", " "], "study_name must be text that is not empty"),
        (["--interval", "5"], "add --watch"),
        (["--watch", "--interval", "0"], "--interval must be a number of seconds from"),
        (["--watch", "--interval", "x"], "--interval must be a number of seconds, but is x"),
        (["--config", "gone.toml"], "There is no configuration file gone.toml"),
        (["--storage"], "Argument --storage: expected one argument"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, argv: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(*argv, folder=tmp_path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("variable", ["HERETIC_STUDY_NAME", "HERETIC_STORAGE"])
def test_a_variable_that_is_no_text_is_refused_as_by_a_run(tmp_path: Path, variable: str) -> None:
    environment = {variable: "caf\udce9", "HERETIC_MODEL": "\udce9"}
    with pytest.raises(ConfigurationError) as of_a_run:
        load_settings([], {variable: environment[variable]}, tmp_path)
    # Also where the command line wins, as there.
    for argv in ([], ["--study-name", "line", "--storage", "sqlite:///line.db"]):
        with pytest.raises(ConfigurationError) as raised:
            read(*argv, folder=tmp_path, environment=environment)
        assert str(raised.value) == str(of_a_run.value)
        assert variable in str(raised.value)
    # What is wrong with other variables is no reason not to look.
    assert read(folder=tmp_path, environment={"HERETIC_MODEL": "\udce9"}).study_name == "heretic_study"


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


def printed(arguments: StatusArguments, terminal: bool = False, width: int = 80) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    assert run_status(arguments, console) == 0
    return file.getvalue()


def test_a_study_is_shown_in_labelled_lines(url: str, study: optuna.Study) -> None:
    Heartbeat(study, "demo", 16, 10).search_started(2, 10)
    output = printed(StatusArguments(url, "heretic"), terminal=True)
    assert output.isascii()
    # The study's path may be as long as it likes.
    assert max(len(line) for line in output.splitlines() if "sqlite" not in line) <= 80
    for fact in (
        "Model          demo",
        "2 of 10 finished: 2 complete",
        "trial 2",
        "refusals   3/100",
        "unedited",
        "host",
    ):
        assert fact in output


def test_json_is_one_line_whose_keys_readme_names(url: str, study: optuna.Study) -> None:
    text = printed(StatusArguments(url, "heretic", json=True))
    (line,) = text.splitlines()
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    for key in json.loads(line):
        assert f"`{key}`" in readme


def test_watching_ends_with_the_run(url: str, study: optuna.Study) -> None:
    heartbeat = Heartbeat(study, "demo", 16, 10)
    heartbeat.search_started(2, 10)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            heartbeat.search_ended(interrupted=False)

    file = io.StringIO()
    run_status(StatusArguments(url, "heretic", json=True, interval=3.0), Console(file=file), sleep)
    assert [json.loads(line)["run"] for line in file.getvalue().splitlines()] == ["searching", "searching", "finished"]
    assert slept == [3.0, 3.0]
