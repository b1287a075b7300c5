"""`heretic migrate`: a copy is as its original, or it does not get the study's name."""

import io
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from rich.console import Console
from tests.unit.search.studies import IDENTITY, SPACE, record, url_of

from heretic.commands.migrate import COMMAND
from heretic.common.errors import ConfigurationError, StudyError
from heretic.interface.printer import Printer
from heretic.search.claim import claimed
from heretic.search.private_api import study_attributes
from heretic.search.records import stored_records, tell
from heretic.search.storage import open_study
from heretic.search.stored_directions import decoded

STORED = Path(__file__).parents[2] / "fixtures" / "study"


def migrated(source: str, target: str, *options: str) -> str:
    file = io.StringIO()
    assert COMMAND([source, target, *options], Printer(Console(file=file, width=80))) == 0
    return file.getvalue()


def stored(name: str, folder: Path) -> str:
    return url_of(Path(shutil.copy(STORED / name / "heretic_study.db", folder / "source.db")))


def loaded(url: str, name: str = "heretic_study") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=url)


@pytest.fixture
def source(tmp_path: Path) -> str:
    url = url_of(tmp_path / "source.db")
    study = open_study(url, "heretic_study", IDENTITY)
    for entry in (record(0, 12, 0.1), record(1, 3, 0.5)):
        trial = study.ask()
        SPACE.suggest(trial)
        tell(study, trial, entry)
    return url


def test_a_study_with_its_directions_is_the_same_there_and_back(tmp_path: Path) -> None:
    source, there, back = stored("refined", tmp_path), url_of(tmp_path / "there.db"), url_of(tmp_path / "back.db")
    before = (tmp_path / "source.db").read_bytes()
    output = migrated(source, there, "--study-name", "refined")
    assert re.search(r"Trials +8 (of \d+ )?finished", output)
    migrated(there, back, "--study-name", "refined")
    assert (tmp_path / "source.db").read_bytes() == before
    one, other = loaded(source, "refined"), loaded(back, "refined")
    assert [(t.number, t.state, t.values, t.params) for t in other.trials] == [
        (t.number, t.state, t.values, t.params) for t in one.trials
    ]
    assert stored_records(other) == stored_records(one)
    assert study_attributes(other) == study_attributes(one)
    assert decoded(study_attributes(other), "The study") is not None


def test_trials_that_were_running_are_failed_in_the_copy_alone_and_tried_again(tmp_path: Path) -> None:
    source, target = stored("killed", tmp_path), url_of(tmp_path / "target.db")
    running = [trial for trial in loaded(source).trials if trial.state is OptunaState.RUNNING]
    assert f"{len(running)} of them ran when their run ended" in migrated(source, target)
    trials = loaded(target).trials
    assert [trials[trial.number].state for trial in running] == [OptunaState.FAIL] * len(running)
    assert [trial.system_attrs["fixed_params"] for trial in trials if trial.state is OptunaState.WAITING] == [
        trial.params for trial in running
    ]
    assert len([trial for trial in loaded(source).trials if trial.state is OptunaState.RUNNING]) == len(running) > 0


def test_a_study_of_that_name_stays(tmp_path: Path, source: str) -> None:
    target = url_of(tmp_path / "target.db")
    open_study(target, "heretic_study", IDENTITY)
    with pytest.raises(StudyError, match=r"There is a study heretic_study in .* already"):
        migrated(source, target)
    assert loaded(target).trials == []


def test_a_study_that_a_run_works_on_is_refused(tmp_path: Path, source: str) -> None:
    with claimed(source, "heretic_study"), pytest.raises(StudyError, match="Another run works on the study"):
        migrated(source, url_of(tmp_path / "target.db"))
    assert not (tmp_path / "target.db").exists()


KILLED_IN_BETWEEN = """
import os, signal, sys
import optuna
from optuna.storages import RDBStorage
create = RDBStorage._create_new_trial
def killing(self, study_id, template_trial=None):
    if len(self.get_all_trials(study_id)) == 1:
        os.kill(os.getpid(), signal.{signal})
    return create(self, study_id, template_trial)
RDBStorage._create_new_trial = killing
# Who runs the tests may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from heretic.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_copy_that_was_interrupted_has_no_name_and_is_begun_anew(tmp_path: Path, source: str, name: str) -> None:
    target = url_of(tmp_path / "target.db")
    before = (tmp_path / "source.db").read_bytes()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_BETWEEN.format(signal=name), "migrate", source, target],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if not key.startswith("HERETIC_")},
    )
    assert killed.returncode == (-signal.SIGKILL if name == "SIGKILL" else 130), killed.stderr
    if name == "SIGINT":
        assert "Nothing was changed in" in killed.stdout
    assert optuna.get_all_study_names(target) == ["heretic_study.unfinished-copy"]
    assert len(loaded(target, "heretic_study.unfinished-copy").trials) == 1
    migrated(source, target)
    assert optuna.get_all_study_names(target) == ["heretic_study"]
    assert stored_records(loaded(target)) == stored_records(loaded(source))
    assert (tmp_path / "source.db").read_bytes() == before


def test_a_copy_that_differs_does_not_get_the_name(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losing(**names: object) -> None:
        copy(**names)
        study = optuna.load_study(study_name=str(names["to_study_name"]), storage=names["to_storage"])  # type: ignore[arg-type]
        study.add_trial(optuna.create_trial(values=[0.0, 0.0]))

    copy = optuna.copy_study
    monkeypatch.setattr(optuna, "copy_study", losing)
    target = url_of(tmp_path / "target.db")
    with pytest.raises(StudyError, match="differs in its number of trials, trials, so it was not given its name"):
        migrated(source, target)
    assert optuna.get_all_study_names(target) == ["heretic_study.unfinished-copy"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:6000]), "is damaged"),
        (lambda file: file.write_bytes(b"no database at all" * 100), "is damaged"),
        (lambda file: _execute(file, "UPDATE trial_user_attributes SET value_json = '{'"), "cannot be read"),
        (lambda file: _execute(file, "DROP TABLE trial_params"), "is damaged or no study file"),
        (lambda file: file.unlink(), "There is no study file"),
    ],
    ids=["cut", "other", "value", "table", "gone"],
)
def test_a_damaged_source_stays_as_it_is(tmp_path: Path, source: str, damage: object, words: str) -> None:
    file, target = tmp_path / "source.db", url_of(tmp_path / "target.db")
    damage(file)  # type: ignore[operator]
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(StudyError, match=words):
        migrated(source, target)
    assert (file.read_bytes() if file.exists() else None) == before
    if (tmp_path / "target.db").exists():
        assert "heretic_study" not in optuna.get_all_study_names(target)


def _execute(file: Path, statement: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "No source was named"),
        (["sqlite:///one.db"], "Two databases are needed"),
        (["sqlite:///one.db", "sqlite:///two.db", "sqlite:///three.db"], "but 3 are named"),
        (["one.db", "sqlite:///two.db"], "storage must be a database URL"),
        (["sqlite:///one.db", "sqlite:///./one.db"], "the same database"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_one_sentence(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as raised:
        COMMAND(argv)
    assert "\n" not in str(raised.value)
