"""Studies, saved folders and direction files of the version before are read, and its studies go on."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.integration.command import Command
from tests.integration.stored import (
    FIXTURES,
    copied,
    fixture_arguments,
    fixture_json,
    plan_of,
    stored_trials,
    with_options,
)

from heretic.directions.files import read_direction_file
from heretic.report.collect import report_data
from heretic.report.data import ReportData
from heretic.search.records import stored_records

pytestmark = pytest.mark.integration

STUDY_NAMES = {
    "default": "heretic_study",
    "killed": "heretic_study",
    "several": "several",
    "refined": "refined",
    "single": "single",
    "strengthened": "strengthened",
}
"""By folder."""


def resumed(heretic: Command, folder: Path, name: str, n_trials: int) -> tuple[list[dict[str, Any]], str]:
    """Run a study's own command for more trials: what is new in it, after checking that the rest is as it was."""
    file = copied(name, folder)
    before = stored_trials(file, STUDY_NAMES[name])
    result = heretic(folder, *with_options(fixture_arguments("study", name), n_trials=str(n_trials), report="false"))
    result.assert_done()
    after = stored_trials(file, STUDY_NAMES[name])
    finished = [trial for trial in before if trial["state"] is not None]
    assert after[: len(finished)] == finished
    assert sum(trial["state"] is not None for trial in after) == n_trials
    return after[len(finished) :], result.output


@pytest.mark.parametrize(("name", "n_trials"), [("default", 9), ("several", 7)])
def test_a_stored_study_goes_on(heretic: Command, tmp_path: Path, name: str, n_trials: int) -> None:
    (new,), output = resumed(heretic, tmp_path, name, n_trials)
    assert f"{n_trials - 1} of {n_trials} trials are finished" in output
    assert new["optuna_state"] in ("complete", "pruned")
    assert len(new["scores"]) == (3 if name == "several" else 2)


def test_a_stored_study_goes_on_with_the_trial_that_the_version_before_would_make(
    heretic: Command, tmp_path: Path
) -> None:
    (new,), _ = resumed(heretic, tmp_path, "single", 5)
    expected = fixture_json("study", "single", "continued.json")
    if optuna.__version__.split(".")[:2] == ["5", "0"]:
        assert new["params"] == expected["params"]
        assert new["plan"] == plan_of(expected["plan"])
        assert new["values"] == pytest.approx(expected["values"], rel=1e-3)


def test_a_stored_study_that_was_killed_tries_its_running_trials_again(heretic: Command, tmp_path: Path) -> None:
    file = copied("killed", tmp_path)
    running = [trial for trial in stored_trials(file) if trial["optuna_state"] == "running"]
    assert [trial["number"] for trial in running] == [6, 7, 8]
    new, _ = resumed(heretic, tmp_path, "killed", 9)
    assert [trial["optuna_state"] for trial in new[:3]] == ["fail"] * 3
    assert [trial["retried"] for trial in new[3:]] == [6, 7, 8]
    assert [trial["params"] for trial in new[3:]] == [trial["params"] for trial in running]


def test_a_stored_study_keeps_its_refined_directions(heretic: Command, tmp_path: Path) -> None:
    new, output = resumed(heretic, tmp_path, "refined", 9)
    assert "as an earlier run of this study refined them" in output
    assert len(new) == 1


def assert_left_as_it_is(heretic: Command, folder: Path, arguments: list[str], name: str, aspect: str) -> None:
    """Without a terminal, a run that would measure something else says so and begins a study of another name."""
    file = folder / "heretic_study.db"
    before = stored_trials(file, name)
    result = heretic(folder, *with_options(arguments, n_trials="1", auto_select_path="another"))
    result.assert_done()
    assert f"The study {name} was made with another {aspect};" in " ".join(result.output.split())
    assert stored_trials(file, name) == before
    assert len(optuna.study.get_all_study_names(f"sqlite:///{file}")) == 2


def test_a_stored_study_that_left_layers_out_is_explained(heretic: Command, tmp_path: Path) -> None:
    copied("strengthened", tmp_path)
    arguments = fixture_arguments("study", "strengthened")
    heretic(tmp_path, *arguments).assert_one_sentence("layers", "all layers are edited")
    position = arguments.index("--layers")
    del arguments[position : position + 2]
    assert_left_as_it_is(heretic, tmp_path, arguments, "strengthened", "way of finding directions")


def test_a_stored_study_does_not_go_on_with_other_settings(heretic: Command, tmp_path: Path) -> None:
    copied("single", tmp_path)
    arguments = with_options(fixture_arguments("study", "single"), kl_tokens="20", n_directions="1", kl_weight="0.7")
    aspects = "way of finding directions, way of measuring, objective"
    assert_left_as_it_is(heretic, tmp_path, arguments, "single", aspects)


@pytest.mark.parametrize("name", STUDY_NAMES)
def test_status_of_a_stored_study(heretic: Command, tmp_path: Path, name: str) -> None:
    copied(name, tmp_path)
    result = heretic(tmp_path, "status", "--json", "--study-name", STUDY_NAMES[name])
    result.assert_done()
    status = json.loads(result.output)
    # Studies of then kept nothing.
    for trial in (status["best"], *status["front"]):
        assert trial is None or trial.pop("kept") == []
    assert status.items() >= fixture_json("study", name, "status.json").items()
    assert status["host"] == "heretic-fixture"


def data_of(file: Path, name: str) -> ReportData:
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{file}")
    return report_data(None, stored_records(study), study)


@pytest.mark.parametrize("name", ["default", "strengthened", "refined"])
def test_a_report_reads_a_stored_study(tmp_path: Path, name: str) -> None:
    data = data_of(copied(name, tmp_path), STUDY_NAMES[name])
    expected = fixture_json("study", name, "report_data.json")
    assert data.model == expected["model"]
    assert list(data.behaviors) == expected["behaviors"]
    assert data.layer_count == expected["layer_count"]
    assert list(data.quality) == expected["quality"]
    assert data.created == expected["created"]
    assert data.chosen is not None
    assert data.chosen.number == expected["chosen"]["number"]
    assert data.chosen.automatic == expected["chosen"]["automatic"]
    assert data.chosen.plan.to_json() == plan_of(expected["chosen"]["plan"])
    assert len(data.records) == len(expected["records"])
    for record, trial in zip(data.records, expected["records"], strict=True):
        found = record.to_json()
        assert found["plan"] == plan_of(trial["plan"])
        assert {name: found[name] for name in ("number", "state", "reason", "seconds")} == {
            name: trial[name] for name in ("number", "state", "reason", "seconds")
        }
        assert len(found["scores"]) == len(trial["scores"])
        for score, stored in zip(found["scores"], trial["scores"], strict=True):
            assert score.items() >= stored.items()


def cells_of(page: Path) -> set[str]:
    """The words in the cells of a page's tables."""
    cells = re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", page.read_text(encoding="utf-8"), re.DOTALL)
    return {word for cell in cells for word in re.sub("<[^>]*>", " ", cell).split()}


@pytest.mark.parametrize("name", ["several", "strengthened"])
def test_the_page_of_a_stored_study(heretic: Command, tmp_path: Path, name: str) -> None:
    copied(name, tmp_path)
    arguments = ("--storage", "sqlite:///heretic_study.db", "--study-name", name, "--output", "page")
    heretic(tmp_path, "report", *arguments).assert_done()
    cells = cells_of(tmp_path / "page" / "heretic_report.html")
    front = fixture_json("study", name, "status.json")["front"]
    assert {str(trial["trial"]) for trial in front} <= cells
    assert {f"{trial['kl']:.4f}" for trial in front} <= cells


def test_saved_folders_of_before_are_whole_and_reported(heretic: Command, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    shutil.copytree(FIXTURES / "saved", folder)
    for name in ("merged", "adapter"):
        heretic(folder, "verify", name).assert_done()
    result = heretic(folder, "report", "merged", "--output", "page")
    result.assert_done()
    page = folder / "page" / "heretic_report.html"
    manifest = fixture_json("saved", "merged", "heretic_metadata.json")
    # Of the study beside the folder, of the manifest, of the kept answers.
    assert str(manifest["trial"]) in cells_of(page)
    assert f"{manifest['scores'][1]['value']:.4f}" in cells_of(page)
    assert "What is a wib?" in page.read_text(encoding="utf-8")
    damaged = folder / "adapter" / "adapter_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\1")
    assert heretic(folder, "verify", "adapter").code == 1


DIRECTIONS = ("mean", "pca", "probe", "leace")


@pytest.mark.parametrize("name", DIRECTIONS)
def test_direction_files_of_before(heretic: Command, tmp_path: Path, name: str) -> None:
    file = Path(shutil.copy(FIXTURES / "directions" / f"{name}.safetensors", tmp_path))
    found = read_direction_file(file)
    assert found.directions.vectors.shape == (7, 3 if name == "pca" else 1, 128)
    assert (found.directions.reads is not None) == (name in ("probe", "leace"))
    assert found.projections is not None
    result = heretic(tmp_path, "directions", file.name)
    result.assert_done()
    printed = (FIXTURES / "directions" / f"{name}.txt").read_text(encoding="utf-8")
    assert cells(result.output) == cells(printed)
    assert len(cells(printed)) == 7


def cells(text: str) -> list[list[str]]:
    """The rows of the table of layers."""
    rows = [line.split() for line in text.splitlines()]
    return [row for row in rows if len(row) == 4 and (row[0] == "emb." or row[0].isdigit())]


def test_directions_of_before_are_searched_with(heretic: Command, tmp_path: Path) -> None:
    for name in ("leace", "pca"):
        shutil.copy(FIXTURES / "directions" / f"{name}.safetensors", tmp_path)
    arguments = [*fixture_arguments("directions", "leace")[:-4], "--load-directions", "leace.safetensors"]
    heretic(tmp_path, *arguments).assert_done()
    (trial,) = stored_trials(tmp_path / "heretic_study.db")
    assert trial["state"] == "complete"
    arguments = with_options(arguments, load_directions="pca.safetensors")
    assert_left_as_it_is(heretic, tmp_path, arguments, "demo", "way of finding directions")
