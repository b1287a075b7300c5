"""``heretic clean``: what it finds, and what it removes."""

from pathlib import Path

import pytest
from tests.unit.search.studies import IDENTITY, url_of

from heretic.commands.clean import COMMAND
from heretic.common.errors import ConfigurationError, SelectionError, StudyError, UserError
from heretic.common.file_systems import exclusive
from heretic.common.unfinished import lock_of
from heretic.search.claim import claimed
from heretic.search.storage import open_study


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that can be left, and things that are nobody else's business."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    open_study(url_of(folder / "heretic_study.db"), "mine", IDENTITY)
    (folder / ".heretic_study.db.0123abcd.lock").touch()
    (folder / "chat_history").mkdir()
    (folder / "chat_history" / "one.json").write_text("{}")
    (folder / ".out.partial-0123abcd").mkdir()
    report = folder / "out_report"
    report.mkdir()
    (report / "heretic_report.html").write_text('<meta name="generator" content="Heretic report 1">')
    store = tmp_path / "configuration" / "heretic" / "profiles.toml"
    store.parent.mkdir(parents=True)
    store.write_text("# mine\n")
    for own in ("out", "my_report"):
        (folder / own).mkdir()
        (folder / own / "notes.txt").write_text("mine")
    return folder


def test_everything_is_listed_with_its_size_and_nothing_else(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMAND([]) == 0
    shown = capsys.readouterr().out
    for name in ("heretic_study.db: studies", "chat_history: ", ".out.partial-0123abcd: ", "out_report: a report"):
        assert name in shown
    assert "profiles.toml: your best plans" in shown
    assert "2 bytes        chat_history" in shown
    assert "my_report" not in shown
    assert " out:" not in shown


def test_what_is_named_is_removed_with_what_belongs_to_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMAND(["heretic_study.db", "./out_report", "--yes"]) == 0
    assert "heretic_study.db is gone.\nout_report is gone.\n" in capsys.readouterr().out
    assert sorted(entry.name for entry in here.iterdir()) == [
        ".out.partial-0123abcd",
        "chat_history",
        "my_report",
        "out",
    ]


def test_nothing_is_removed_unasked_or_while_a_run_works_on_it(here: Path) -> None:
    with pytest.raises(SelectionError, match="--yes"):
        COMMAND(["chat_history"])
    with (
        claimed(url_of(here / "heretic_study.db"), "mine"),
        pytest.raises(StudyError, match=r"A run works on heretic_study\.db"),
    ):
        COMMAND(["heretic_study.db", "chat_history", "--yes"])
    assert (here / "chat_history").is_dir()


@pytest.mark.parametrize("name", ["out", "my_report", "../here/out", "/etc"])
def test_what_heretic_did_not_leave_is_refused(here: Path, name: str) -> None:
    with pytest.raises(UserError, match="among what Heretic left here"):
        COMMAND([name, "--yes"])
    assert (here / "out" / "notes.txt").exists()


def test_a_yes_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match="name it"):
        COMMAND(["--yes"])


def test_a_folder_that_is_being_written_is_not_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with exclusive(lock_of(here / "out"), BlockingIOError()):
        assert COMMAND([]) == 0
        assert "partial" not in capsys.readouterr().out
        with pytest.raises(UserError, match="among what Heretic left here"):
            COMMAND([".out.partial-0123abcd", "--yes"])
    assert COMMAND([".out.partial-0123abcd", "--yes"]) == 0
    assert not list(here.glob(".out.*"))
