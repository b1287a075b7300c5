"""What is refused before minutes are spent on a model: files, folders, and prompts that lead nowhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.behaviors import one_behavior, pack
from tests.unit.passes.pico_runner import PROMPTS

from heretic import workflow
from heretic.common.errors import ConfigurationError, UserError
from heretic.config import LoadedSettings, Settings
from heretic.directions.types import DirectionSet
from heretic.export.atomic import check_directions_file
from heretic.prompts.sets import PromptSets
from heretic.prompts.types import Prompt, PromptSet
from heretic.run import preflight
from heretic.run.preflight import check_prompts
from heretic.run.rules import Request
from heretic.run.study_name import without_asking
from heretic.search import claim
from heretic.search.claim import claimed

GOOD = PromptSet("good", PROMPTS)
BAD = PromptSet("bad", tuple(Prompt(f"Never {number}") for number in range(6)))
REFUSAL, LENGTH = pack(), pack("verbosity", "length", tokens=6)


def run(**settings: Any) -> int:
    loaded = LoadedSettings(Settings(**settings), None, None, {})
    return workflow.run(loaded, lambda _: None, without_asking)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "./missing"}, "missing"),
        ({"evaluate_model": "./missing"}, "missing"),
        ({"log_file": "a", "metrics_file": "a"}, "log_file and metrics_file"),
        ({"behavior": ["nonsense"]}, "There is no behaviour nonsense"),
        ({"extractor": "prob"}, "no extractor named prob"),
        ({"save_directions": "missing/d.safetensors"}, "there is no folder"),
        ({"save_directions": "."}, "is a folder"),
        ({"save_directions": "notes.txt"}, "is no direction file"),
        ({"load_directions": ["gone.safetensors"]}, "There is no file gone.safetensors"),
        ({"load_directions": ["notes.txt"]}, "is not a direction file"),
        ({"profile_store": "."}, "is a folder"),
        ({"start_from": "gone"}, "There is no folder gone"),
        ({"start_from": "full/file"}, "folder that Heretic saved"),
        ({"storage": "sqlite:///notes.txt"}, "is damaged"),
        ({"auto_select": True, "auto_select_path": "full"}, "not empty"),
        (
            {"auto_select": True, "auto_select_path": "out", "save_format": "adapter", "normalization": "column"},
            "--normalization row or none",
        ),
        ({"auto_select": True, "hf_upload": "a/b"}, "needs a login"),
        *(
            ({"auto_select": True, "auto_select_path": "run", **changes}, "that folder appears only when")
            for changes in (
                {"storage": "sqlite:///run/study.db"},
                {"storage": "sqlite:///./full/../run/study.db"},
                {"metrics_file": "run/heretic.prom"},
                {"save_directions": "run/d.safetensors"},
                {"log_file": "run/logs/heretic.log"},
                {"use_warm_start_params": True, "profile_store": "run/profiles.json"},
            )
        ),
        ({"auto_select": True, "auto_select_path": "."}, "storage is a file in"),
        ({"storage": "sqlite:///one.log", "log_file": "./one.log"}, "log_file and storage name the same file"),
        (
            {"model": "x.gguf", "auto_select": True, "auto_select_path": "a", "save_format": "adapter"},
            "--save-format merged",
        ),
        ({"max_memory": {"77": "20GB"}}, "--max-memory names the device 77"),
        ({"device": "cuda:77"}, "no device cuda:77 here"),
        ({"neural_detection_device": "cuda:77"}, "use --neural-detection-device"),
        ({"storage": "sqlite:///missing/study.db"}, "cannot be written"),
        ({"bad_held_out_prompts": {"dataset": "gone.txt"}}, "no file or folder gone.txt"),
        ({"keep_prompts": "notes.txt", "keep_held_out_prompts": "gone.txt"}, "keep refusal held_out: there is no file"),
        ({"behavior": ["verbosity"], "keep_prompts": "notes.txt"}, "its evaluator length measures words"),
    ],
    ids=str,
)
def test_options_and_files_are_checked_before_prompts_are_fetched(
    settings: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("heretic.export.hub.get_token", lambda: None)
    monkeypatch.setattr(preflight, "load_prompts", lambda _: pytest.fail("prompts were fetched"))
    with pytest.raises(UserError, match=words) as caught:
        run(**{"model": "demo", **settings})
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert {entry.name for entry in tmp_path.iterdir()} == {"notes.txt", "full"}


def test_locks_and_other_runs_are_looked_for_before_prompts_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "load_prompts", lambda _: pytest.fail("prompts were fetched"))
    with claimed("sqlite:///heretic_study.db", "heretic"), pytest.raises(UserError, match="Another run works on"):
        run(model="demo", study_name="heretic")
    monkeypatch.setattr(claim, "missing_locks", lambda _: "no locks")
    with pytest.raises(UserError, match="without locks"):
        run(model="demo")
    assert list(tmp_path.iterdir()) == []


def test_a_report_folder_that_holds_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out_report").mkdir()
    (tmp_path / "out_report" / "notes.txt").write_text("mine")
    monkeypatch.setattr(workflow, "check_capability", lambda _: pytest.fail("too late"))
    monkeypatch.setattr(workflow, "preflight", lambda _: None)
    with pytest.raises(UserError, match="something else than a report"):
        run(model="demo", auto_select=True, auto_select_path="out")


def test_direction_file_of_an_earlier_run_may_be_replaced(tmp_path: Path) -> None:
    vectors = torch.ones(2, 1, 1)
    DirectionSet(vectors, torch.ones(2, 1), torch.ones(2), "mean").save(tmp_path / "d.safetensors")
    check_directions_file(tmp_path / "d.safetensors")
    check_directions_file(tmp_path / "new.safetensors")


# Prompts --------------------------------------------------------------------------------------------------------------


def check(prompts: PromptSets, **changes: Any) -> None:
    packs = tuple(behavior.pack for behavior in prompts.behaviors)
    check_prompts(Request(Settings(model="x", **{"extractor": "mean", **changes}), packs), prompts)


def test_training_prompts_that_are_the_same_on_both_sides_are_refused() -> None:
    turned = PromptSet("bad", tuple(reversed(GOOD.prompts)))
    alone = one_behavior(GOOD, turned, own=LENGTH)
    both = PromptSets((*one_behavior(GOOD, BAD, own=REFUSAL).behaviors, *alone.behaviors))
    for prompts in (alone, both):
        with pytest.raises(ConfigurationError, match="of verbosity are the same on both sides, bad and good, so no"):
            check(prompts)
    check(alone, load_directions=["a"])
    # Another system prompt is another prompt.
    check(one_behavior(GOOD, PromptSet("bad", tuple(Prompt(own.user, "Be long.") for own in PROMPTS)), own=LENGTH))


def test_a_model_that_is_edited_already_needs_no_training_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    same = one_behavior(GOOD, GOOD)
    monkeypatch.setattr(preflight, "load_prompts", lambda *_: same)
    assert preflight.preflight(Settings(model="demo", evaluate_model="demo")) is same
    with pytest.raises(ConfigurationError, match="the same on both sides"):
        preflight.preflight(Settings(model="demo", storage="sqlite://", confirm=False))


def test_methods_say_how_many_prompts_they_need() -> None:
    check(one_behavior(GOOD, BAD))
    with pytest.raises(ConfigurationError, match=r"at least 10 prompts .* bad_prompts holds 6 and good_prompts 5"):
        check(one_behavior(GOOD, BAD), extractor="probe")
