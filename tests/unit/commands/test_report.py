"""`heretic report`: its arguments, which study it reads, and what it refuses."""

import copy
import io
import json
import shutil
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from tests.unit.directions.direction_sets import random_set
from tests.unit.report.reports import DATA, MANIFEST, RECORDS
from tests.unit.search.studies import IDENTITY, SPACE, url_of

from heretic import cli
from heretic.commands.report import COMMAND
from heretic.common.errors import ConfigurationError, StudyError, UserError
from heretic.directions.files import write_direction_file
from heretic.interface.printer import Printer
from heretic.report import importance, write
from heretic.report.extras import Extras, read_extras
from heretic.report.write import write_report
from heretic.results.held_out import Example
from heretic.results.plan import EditPlan
from heretic.results.trial import TrialRecord
from heretic.search.records import tell
from heretic.search.storage import open_study

FRONT = "7 trials: 4 complete, 3 of them on the front"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["out", "--storage", "file.db"], "storage must be a database URL"),
        (["out", "--config", "x.toml"], "--config is for a report without a folder"),
        (["--config", "gone.toml"], "There is no configuration file gone.toml"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_one_sentence(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        COMMAND(argv)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture(autouse=True)
def _charts_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests of charts look at what is drawn; here it is told which there are."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, format="png")
    monkeypatch.setattr(write, "_png", lambda *_arguments: buffer.getvalue())


def write_study(path: Path, records: Sequence[TrialRecord]) -> None:
    study = open_study(url_of(path), "heretic", IDENTITY)
    for entry in records:
        trial = study.ask()
        SPACE.suggest(trial)
        tell(study, trial, entry)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "study.db"
    write_study(path, RECORDS)
    return path


@pytest.fixture
def place(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a study, and a model that was saved from it."""
    shutil.copy(stored, tmp_path)
    save(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(folder: Path, **changes: object) -> None:
    folder.mkdir(exist_ok=True)
    manifest: dict[str, Any] = {**copy.deepcopy(MANIFEST), **changes}
    (folder / "heretic_metadata.json").write_text(json.dumps(manifest))


def written(*argv: str) -> tuple[str, str]:
    """What the command prints, and the page that it wrote."""
    output = io.StringIO()
    console = Console(file=output, width=200, markup=False, highlight=False, emoji=False)
    assert COMMAND(argv, Printer(console)) == 0
    path = Path(output.getvalue().splitlines()[0].removeprefix("Report").strip())
    return output.getvalue(), path.read_text(encoding="utf-8")


def test_a_saved_model_is_reported_with_the_study_that_it_came_from(place: Path) -> None:
    before = sorted(path.name for path in (place / "out").iterdir())
    output, page = written("out")
    assert str(place / "out_report" / "heretic_report.html") in output
    assert FRONT in page
    assert "Trial 3 of 7 was chosen: refusals 5/100" in page
    assert sorted(path.name for path in (place / "out").iterdir()) == before
    assert "Too few trials" in output
    # Again, from elsewhere, to a named folder.
    assert FRONT in written(str(place / "out"), "--output", str(place / "mine"))[1]
    assert (place / "mine" / "heretic_report" / "pareto.png").exists()


def test_answers_and_qualities_of_an_earlier_report_of_the_same_model_are_kept(place: Path) -> None:
    example = Example("refusal", "What is rain?", "I cannot say.", "Water that falls.")
    saved_when = str(MANIFEST["created"])
    write_report(place / "out_report", replace(DATA, examples=(example,), quality=(0.0, 0.5), created=saved_when))
    for _again in range(2):
        _output, page = written("out")
        assert "Water that falls." in page
        assert "No answers were kept" not in page
    # Another model was saved under that name since.
    save(place / "out", created="2030-01-01T00:00:00+00:00")
    assert "Water that falls." not in written("out")[1]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"created": "now", "examples": [3]}', "\xff"])
def test_what_was_kept_and_is_damaged_is_done_without(tmp_path: Path, content: str) -> None:
    (tmp_path / "kept.json").write_text(content, encoding="latin-1")
    assert read_extras(tmp_path / "kept.json", "now") == Extras()


def test_the_study_is_also_found_beside_the_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert FRONT in written("../out")[1]


def test_of_several_files_of_the_studys_name_the_one_is_read_that_holds_the_trial(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an absolute path a manifest has the name only, and `heretic_study.db` is what every run calls its file."""
    here = place / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)
    open_study(url_of(here / "study.db"), "heretic", IDENTITY)
    assert FRONT in written("../out")[1]
    assert FRONT in written("../out", "--study-name", "heretic")[1]


def test_a_study_somewhere_else_is_found_where_the_folders_configuration_names_it(place: Path) -> None:
    (place / "far").mkdir()
    (place / "study.db").rename(place / "far" / "study.db")
    assert FRONT not in written("out")[1]
    settings = place / "config.toml"
    settings.write_text(f'storage = "{url_of(place / "far" / "study.db")}"\nn_trials = "not looked at"\n')
    assert FRONT in written("out")[1]
    settings.write_text("storage = \n")
    output, page = written("out")
    assert FRONT not in page
    assert "config.toml" in output


def test_which_trials_importance_was_computed_from_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "computed from" not in written("out")[0]
    monkeypatch.setattr(importance, "FEWEST_TRIALS", 2)
    monkeypatch.setattr(importance, "MOST_TRIALS", 3)
    monkeypatch.setattr(importance, "_shares", lambda points: (("scope", 1.0),) if len(points) == 3 else ())
    output, page = written("out")
    (line,) = [line for line in output.splitlines() if "computed from" in line]
    assert "3 of 4 trials (refusals) and 3 of 6 trials (KL divergence)" in line
    assert "3 of 4 trials (refusals) and 3 of 6 trials (KL divergence)" in page


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("sqlite:///gone.db", "The study file gone.db that the model came from is not here"),
        ("postgresql://user:***@host/db", "The model&#39;s study is in a database that is not read unasked"),
        ("nonsense", "The manifest names no study database that can be used"),
        (3, "The manifest does not say which study the model came from"),
        ("sqlite:///text.db", "is damaged or no study file"),
    ],
    ids=str,
)
def test_where_the_study_is_not_at_hand_the_report_says_why(place: Path, storage: object, reason: str) -> None:
    (place / "text.db").write_text("no database, but long enough to be looked at" * 100)
    save(place / "out", settings={"study_name": "heretic", "storage": storage})
    _output, page = written("out")
    assert reason in page
    assert FRONT not in page
    assert "Trial 3 was chosen: refusals 5/100" in page
    # One that was named has to be there.
    with pytest.raises(UserError):
        written("out", "--study-name", "heretic")
    assert FRONT in written("out", "--storage", "sqlite:///study.db")[1]


@pytest.mark.parametrize("strengths", [{}, {"mlp": [0.5, 1.0]}], ids=["none", "some"])
def test_a_folder_and_a_study_of_an_earlier_version_belong_together(tmp_path: Path, strengths: dict[str, Any]) -> None:
    """It also wrote which strengths a plan has by layer, and had plans with nothing but these."""
    chosen = RECORDS[2].plan.to_json() | {"strengths": strengths} | ({"schedules": {}} if strengths else {})
    earlier = replace(RECORDS[2], plan=EditPlan.from_json(chosen))
    write_study(tmp_path / "study.db", [*RECORDS[:2], earlier, *RECORDS[3:]])
    save(tmp_path / "out", plan=chosen)
    _output, page = written(str(tmp_path / "out"), "--storage", url_of(tmp_path / "study.db"))
    assert FRONT in page
    assert "Trial 3 of 7 was chosen: refusals 5/100" in page
    drawn = "Strength of the edit over the layers" in page
    assert (drawn, "free by layer" in page) == ((False, True) if strengths else (True, False))


def test_another_study_of_that_name_is_not_taken_for_the_models(place: Path) -> None:
    save(place / "out", optuna_trial_number=3, plan={**RECORDS[3].plan.to_json(), "direction_position": 0.1})
    assert "does not hold the trial that was saved" in written("out")[1]
    with pytest.raises(StudyError, match="does not hold the trial"):
        written("out", "--storage", "sqlite:///study.db")


def test_a_study_alone(place: Path) -> None:
    output, page = written("--storage", "sqlite:///study.db", "--study-name", "heretic")
    assert str(place / "heretic_report" / "heretic_report.html") in output
    assert FRONT in page
    assert "the automatic choice would be trial 3 of 7" in page


def test_without_a_folder_the_study_is_that_of_a_run_here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERETIC_STUDY_NAME", "heretic")
    (place / "own.toml").write_text('storage = "sqlite:///study.db"\n')
    assert FRONT in written("--config", "own.toml")[1]
    # A model's own study does not depend on where its report is made.
    save(place / "out", settings={"study_name": "gone", "storage": "sqlite:///study.db"})
    assert FRONT not in written("out")[1]


def test_qualities_come_from_a_direction_file(place: Path) -> None:
    quality = torch.linspace(0, 1, 9)
    write_direction_file(place / "d.safetensors", random_set(0, layers=8, width=4, quality=quality))
    assert "a direction file holds it" in written("out")[1]
    assert not (place / "out_report" / "heretic_report" / "quality.png").exists()
    assert "best at layer 8 with 1" in written("out", "--directions", "d.safetensors")[1]
    assert (place / "out_report" / "heretic_report" / "quality.png").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["gone"], "There is no folder gone"),
        (["empty"], "has no heretic_metadata.json"),
        (["sums"], "holds checksums only"),
        (["out", "--output", "out"], "holds something else than a report"),
        (["out", "--directions", "gone.safetensors"], "There is no file gone.safetensors"),
        (["out", "--storage", "sqlite:///gone.db"], "There is no study file gone.db"),
        (["--storage", "sqlite:///study.db", "--study-name", "x"], "There is no study x in"),
        (["broken"], "damaged or too new"),
    ],
    ids=str,
)
def test_what_cannot_be_reported_is_one_sentence_and_writes_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    (place / "empty").mkdir()
    save(place / "sums", format="checksums")
    save(place / "broken", plan=3)
    before = sorted(place.iterdir())
    assert cli.main(["report", *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("starts", [True, False])
def test_the_page_is_opened_where_a_browser_can_be_started(
    place: Path, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    opened: list[str] = []

    def start(address: str) -> bool:
        opened.append(address)
        return starts

    monkeypatch.setattr(webbrowser, "open", start)
    address = (place / "out_report" / "heretic_report.html").as_uri()
    output, _page = written("out")
    assert opened == []
    assert address in output
    output, _page = written("out", "--open")
    assert opened == [address]
    assert ("open that address yourself" in output) is not starts
