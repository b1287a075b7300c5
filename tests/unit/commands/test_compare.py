"""``heretic compare`` and ``heretic open``: what they refuse, and what of a study they take."""

import json
import shutil
from pathlib import Path

import pytest
from tests.unit.search.studies import IDENTITY, SPACE, record, url_of

from heretic.commands.compare import COMMAND
from heretic.commands.open import COMMAND as OPEN
from heretic.commands.open import NEVER, stored_settings
from heretic.common.errors import ConfigurationError, SelectionError, StudyError, UserError, VersionSkewError
from heretic.config import Settings
from heretic.run.kept_checks import SETTINGS_ATTRIBUTE, keep_settings
from heretic.search.private_api import study_attributes
from heretic.search.records import tell
from heretic.search.storage import open_study

SAVED = Path(__file__).parents[2] / "fixtures" / "saved" / "merged"


def test_a_study_says_what_it_was_made_with_and_nothing_that_lets_code_run(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "mine", IDENTITY)
    asked = Settings(
        model="demo", kl_tokens=5, storage=url, trust_remote_code=True, allow_pickle=True, auto_select=True
    )
    keep_settings(study, asked)
    attributes = study_attributes(study)
    assert attributes[SETTINGS_ATTRIBUTE] == {"model": "demo", "kl_tokens": 5, "auto_select": True}
    attributes = {
        SETTINGS_ATTRIBUTE: {**attributes[SETTINGS_ATTRIBUTE], "trust_remote_code": True, "allow_pickle": True}
    }
    found = stored_settings(attributes, {"storage": url, "study_name": "mine", **NEVER}, "mine")
    assert (found.model, found.kl_tokens, found.study, found.auto_select) == ("demo", 5, "mine", False)
    assert not found.trust_remote_code
    assert not found.allow_pickle


def test_a_study_that_does_not_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="run the command again that began it"):
        stored_settings({}, {}, "mine")
    with pytest.raises(VersionSkewError, match="newer or older Heretic"):
        stored_settings({SETTINGS_ATTRIBUTE: {"kl_tokens": "many"}}, {}, "mine")


def test_a_menu_needs_a_terminal() -> None:
    with pytest.raises(SelectionError, match="no terminal"):
        OPEN([])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["a"], "Two are compared, but 1 are named"),
        (["a", "b", "c"], "Two are compared, but 3 are named"),
        (["a", "b", "--study", "x"], "are for trials"),
        (["a", "b", "--count", "-1"], "--count must be a whole number"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(argv: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        COMMAND(argv)


def test_trials_of_a_study_without_a_measured_one_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = open_study(url_of(tmp_path / "heretic_study.db"), "mine", IDENTITY)
    with pytest.raises(StudyError, match="no finished trial yet"):
        COMMAND(["1", "2"])
    trial = study.ask()
    SPACE.suggest(trial)
    tell(study, trial, record(0, 12, 0.1))
    with pytest.raises(StudyError, match="does not say with which options"):
        COMMAND(["1", "2"])


def test_folders_stand_side_by_side_with_their_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        shutil.copytree(SAVED, name)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=r"no heretic_metadata\.json"):
        COMMAND(["bare", "one"])
    assert COMMAND(["one", "two", "--count", "0"]) == 0
    shown = capsys.readouterr().out
    manifest = json.loads((SAVED / "heretic_metadata.json").read_text(encoding="utf-8"))
    assert "KL divergence" in shown
    assert f"{manifest['scores'][-1]['value']:.4f}" in shown
