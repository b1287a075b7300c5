"""`heretic chat` on a study: what its run is asked to do. The page itself is in tests/integration/test_chat_page.py."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.search.studies import IDENTITY, SPACE, dominated, failed, record, url_of

from heretic.commands.chat import COMMAND
from heretic.common.errors import ConfigurationError, StudyError
from heretic.search.records import tell
from heretic.search.storage import open_study


def stored(tmp_path: Path, *records: Any) -> list[str]:
    """The arguments of a study with these trials, and one that nobody has measured yet."""
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "kept", IDENTITY)
    for each in records:
        trial = study.ask()
        SPACE.suggest(trial)
        tell(study, trial, each)
    study.enqueue_trial({})
    return ["--model", "demo", "--storage", url, "--study-name", "kept"]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    pytest.importorskip("gradio", reason="gradio is not installed; uv sync --extra web installs it")
    started: list[tuple[Any, ...]] = []

    def run(*arguments: Any) -> int:
        started.append(arguments)
        return 0

    monkeypatch.setattr("heretic.interface.terminal.run_in_terminal", run)
    return started


def test_a_page_for_a_study_tries_nothing_further(tmp_path: Path, runs: list[tuple[Any, ...]]) -> None:
    # Failed trials count for no search, so that one of four would be tried anew.
    records = (record(0, 12, 0.1), failed(1), dominated(2, 9, 0.5), record(3, 3, 0.5))
    assert COMMAND([*stored(tmp_path, *records), "--device", "cpu"]) == 0
    ((loaded, _choose, refuse),) = runs
    settings = loaded.settings
    assert (settings.n_trials, settings.wanted_trials, settings.auto_select) == (3, 3, False)
    assert (settings.model, settings.study_name, settings.device) == ("demo", "kept", "cpu")
    with pytest.raises(StudyError, match=r"made with other words: .*--config"):
        refuse("kept", "It was made with other words.", "kept-1")


def test_a_study_without_a_measured_trial_is_refused(tmp_path: Path, runs: list[tuple[Any, ...]]) -> None:
    with pytest.raises(StudyError, match="no finished trial yet"):
        COMMAND(stored(tmp_path, failed(0)))
    assert runs == []


@pytest.mark.parametrize(
    "argv", [["--study-name", "x"], ["out", "--study-name", "x"], ["--storage", "sqlite:///x.db"], ["--config", "x"]]
)
def test_what_does_not_go_together_is_said_at_once(argv: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="stud"):
        COMMAND(argv)
