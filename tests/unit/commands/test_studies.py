"""`heretic studies`: what it lists, and that it deletes and renames only what nobody works on."""

import json
from pathlib import Path

import optuna
import pytest
from tests.unit.commands.test_status import printed_by
from tests.unit.search.studies import IDENTITY, SPACE, record, url_of

from heretic.commands.studies import COMMAND, StudiesArguments
from heretic.common.errors import ConfigurationError, SelectionError, StudyError
from heretic.search.claim import claimed
from heretic.search.heartbeat import Heartbeat
from heretic.search.records import tell
from heretic.search.storage import open_study


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two studies of ours, one of somebody else."""
    path = tmp_path / "study.db"
    first = open_study(url_of(path), "first", IDENTITY)
    for entry in (record(0, 12, 0.1), record(1, 3, 0.5)):
        trial = first.ask()
        SPACE.suggest(trial)
        tell(first, trial, entry)
    Heartbeat(first, "some/model", 16, 10).search_ended(interrupted=False)
    open_study(url_of(path), "second", IDENTITY)
    foreign = optuna.create_study(storage=url_of(path), study_name="foreign")
    foreign.tell(foreign.ask(), 1.0)
    return path


def names(file: Path) -> list[str]:
    return optuna.get_all_study_names(url_of(file))


def printed(*argv: str) -> str:
    return printed_by(COMMAND, *argv, width=100)


def test_every_study_has_a_line(file: Path) -> None:
    output = printed(str(file))
    (first,) = [line for line in output.splitlines() if "first" in line]
    for fact in ("some/model", " 2 ", "refusals 3/100", "finished"):
        assert fact in first
    (second,) = [line for line in output.splitlines() if "second" in line]
    assert "none yet" in second
    assert "The study foreign" in output
    assert "was not made by Heretic" in output
    told = json.loads(printed(str(file), "--json"))
    assert [study["study"] for study in told["studies"]] == ["first", "second"]
    assert len(told["not_read"]) == 1


def test_a_folder_in_which_heretic_was_run(tmp_path: Path, file: Path) -> None:
    (tmp_path / "config.toml").write_text('storage = "sqlite:///study.db"\n')
    assert "some/model" in printed(str(tmp_path))


def test_deleting(file: Path) -> None:
    with pytest.raises(SelectionError, match="--yes"):
        printed(str(file), "--delete", "first")
    assert "first" in names(file)
    assert "is gone" in printed(str(file), "--delete", "first", "--yes")
    assert names(file) == ["second", "foreign"]


@pytest.mark.parametrize(("sure", "left"), [(True, ["second", "foreign"]), (False, ["first", "second", "foreign"])])
def test_a_person_is_asked_first(file: Path, sure: bool, left: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.interface.asking.agrees", lambda question, _next: sure and "2 finished" in question)
    printed(str(file), "--delete", "first")
    assert names(file) == left


def test_renaming(file: Path) -> None:
    assert "--study-name new" in printed(str(file), "--rename", "first", "--to", "new")
    assert names(file) == ["new", "second", "foreign"]
    assert len(optuna.load_study(study_name="new", storage=url_of(file)).trials) == 2
    with pytest.raises(StudyError, match=r"There is a study second in .* already"):
        printed(str(file), "--rename", "new", "--to", "second")


@pytest.mark.parametrize("asked", [("--delete", "first", "--yes"), ("--rename", "first", "--to", "new")])
def test_a_study_that_a_run_works_on_is_left_alone(file: Path, asked: tuple[str, ...]) -> None:
    with claimed(url_of(file), "first"), pytest.raises(StudyError, match="Another run works on the study first"):
        printed(str(file), *asked)
    assert names(file) == ["first", "second", "foreign"]


@pytest.mark.parametrize("asked", [("--delete", "gone", "--yes"), ("--rename", "gone", "--to", "new")])
def test_what_is_not_there(file: Path, tmp_path: Path, asked: tuple[str, ...]) -> None:
    with pytest.raises(StudyError, match=r"There is no study gone in .* it holds first, second, foreign"):
        printed(str(file), *asked)
    with pytest.raises(StudyError, match="There is no study file"):
        printed(str(tmp_path / "other.db"), *asked)
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a.db", "--storage", "sqlite:///b.db"], "both name the database"),
        (["--delete", "a", "--rename", "b", "--to", "c"], "leave --delete or --rename out"),
        (["--rename", "a"], "go together"),
        (["--to", "a"], "go together"),
        (["--yes"], "add --delete NAME"),
        (["--rename", "a", "--to", ""], "--to is empty"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_one_sentence(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        COMMAND.read(argv)


def test_arguments() -> None:
    assert COMMAND.read(["a.db", "--delete", "x", "--yes"]) == StudiesArguments(file="a.db", delete="x", yes=True)
