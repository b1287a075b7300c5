"""What is refused before minutes are spent on a model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from heretic import workflow
from heretic.common.errors import UserError
from heretic.config import LoadedSettings, Settings
from heretic.directions.types import DirectionSet


def run(**settings: Any) -> int:
    loaded = LoadedSettings(Settings(model="demo", **settings), None, None, {})
    return workflow.run(loaded, lambda _: None, workflow.without_asking)


@pytest.fixture(autouse=True)
def nothing_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "prepare", lambda *_: pytest.fail("minutes were spent"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"save_directions": "missing/d.safetensors"}, "there is no folder"),
        ({"save_directions": "."}, "is a folder"),
        ({"save_directions": "notes.txt"}, "is no direction file"),
        ({"load_directions": ["gone.safetensors"]}, "There is no file gone.safetensors"),
        ({"load_directions": ["notes.txt"]}, "is not a direction file"),
        ({"auto_select": True, "auto_select_path": "full"}, "not empty"),
        ({"auto_select": True, "auto_select_path": "out", "save_format": "adapter"}, "--normalization none"),
        ({"auto_select": True, "hf_upload": "a/b"}, "needs a login"),
    ],
    ids=str,
)
def test_destinations_are_checked_first(
    settings: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("heretic.export.hub.get_token", lambda: None)
    with pytest.raises(UserError, match=words) as caught:
        run(**settings)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert {entry.name for entry in tmp_path.iterdir()} == {"notes.txt", "full"}


def test_direction_file_of_an_earlier_run_may_be_replaced(tmp_path: Path) -> None:
    vectors = torch.ones(2, 1, 1)
    DirectionSet(vectors, torch.ones(2, 1), torch.ones(2), "mean").save(tmp_path / "d.safetensors")
    workflow.check_directions_file(tmp_path / "d.safetensors")
    workflow.check_directions_file(tmp_path / "new.safetensors")
