"""What calibration found is measured once a study, and again where something that decides it changed."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from tests.unit.behaviors import one_behavior
from tests.unit.passes.pico_runner import PROMPT_SET, make_runner
from tests.unit.run.test_workbench import BAD, SETS, SETTINGS

from heretic.observability.events import Calibrated, Event, subscribed
from heretic.run import workbench
from heretic.run.kept_calibration import (
    CALIBRATION_ATTRIBUTE,
    KeptCalibration,
    conditions,
    keep_calibration,
    kept_calibration,
)
from heretic.run.workbench import load
from heretic.search.stored_directions import stored_attributes

OPEN = SETTINGS.model_copy(update={"batch_size": 0, "response_prefix": None})


@pytest.mark.parametrize(
    ("changed", "measured"),
    [({}, 0), ({"max_batch_size": 6}, 1), ({"kl_mode": "first"}, 1), ({"report": False, "n_trials": 99}, 0)],
)
def test_it_is_measured_again_where_what_decides_it_changed(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, object], measured: int
) -> None:
    runner = make_runner("llama")
    asked: list[int] = []

    def find(*_arguments: object) -> int:
        asked.append(0)
        return 3

    monkeypatch.setattr(workbench, "load_model", lambda _name, _settings: runner.loaded)
    monkeypatch.setattr(workbench, "find_batch_size", find)
    monkeypatch.setattr(workbench, "find_response_prefix", lambda *_: "found")
    kept = KeptCalibration(conditions(OPEN, runner.loaded, SETS), 2, "kept", 1, 4)
    events: list[Event] = []
    with subscribed(events.append):
        found = load(OPEN.model_copy(update=changed), SETS, kept).runner.calibration
    (said,) = (event for event in events if isinstance(event, Calibrated))
    assert (len(asked), said.kept) == (measured, not measured)
    assert (found.batch_size, found.response_prefix) == ((3, "found") if measured else (2, "kept"))


def test_other_weights_and_other_prompts_are_other_conditions() -> None:
    loaded = make_runner("llama").loaded
    before = conditions(OPEN, loaded, SETS)
    assert conditions(OPEN, make_runner("qwen2").loaded, SETS) != before
    assert conditions(OPEN, loaded, one_behavior(PROMPT_SET, replace(BAD, prompts=BAD.prompts[:-1]))) != before
    assert conditions(OPEN, replace(loaded, dtype="bfloat16"), SETS) != before
    assert conditions(OPEN, loaded, SETS) == before


def test_a_study_gives_back_what_it_keeps(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=url, study_name="own")
    assert kept_calibration(stored_attributes(url, "own")) is None
    for found in (KeptCalibration("a", 8, "", 2, 1), KeptCalibration("b", 4, " Sure,", 0, 16)):
        keep_calibration(study, url, found)
        assert kept_calibration(stored_attributes(url, "own")) == found


@pytest.mark.parametrize("stored", ["text", {}, {"conditions": "a", "batch_size": 0}, {"batch_size": "8"}])
def test_what_cannot_be_read_is_measured_again(stored: object) -> None:
    assert kept_calibration({CALIBRATION_ATTRIBUTE: stored}) is None
