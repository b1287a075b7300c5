"""What is wrong with an edited model is said before anything else of a comparison is done."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from heretic.common.errors import HereticError
from heretic.common.integrity import MANIFEST_NAME, checksums, files_of, write_manifest_file
from heretic.config import Settings
from heretic.models.demo import DEMO_MODEL_FOLDER
from heretic.models.verified import VerificationError
from heretic.observability.events import Event, ModelLoading, subscribed
from heretic.prompts.sets import load_prompts, packs_of
from heretic.run import comparison
from heretic.run.comparison import compare

QUICK: dict[str, Any] = {
    "model": "demo",
    "device": "cpu",
    "extractor": "mean",
    "batch_size": 8,
    "response_prefix": "",
    # A behaviour whose prompts are bundled.
    "behavior": ["verbosity"],
}


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """A model with a manifest that it is as."""
    folder = tmp_path / "edited"
    shutil.copytree(DEMO_MODEL_FOLDER, folder)
    entries = {name: {"sha256": e.sha256, "size": e.size} for name, e in checksums(files_of(folder)).items()}
    write_manifest_file(folder / MANIFEST_NAME, {"manifest_version": 1, "format": "checksums", "files": entries})
    return folder


def refused(name: str, **settings: Any) -> tuple[HereticError, list[str]]:
    """The error that a comparison with the demo model ends in, and the models that were loaded until then."""
    events: list[Event] = []
    chosen = Settings(**QUICK, **settings)
    with subscribed(events.append), pytest.raises(HereticError) as caught:
        compare(chosen, name, load_prompts(chosen, packs_of(chosen)))
    return caught.value, [event.model for event in events if isinstance(event, ModelLoading)]


def test_changed_files_are_found_before_the_base_is_loaded(edited: Path) -> None:
    with (edited / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    error, loaded = refused(str(edited))
    assert isinstance(error, VerificationError)
    assert "model.safetensors" in str(error)
    assert loaded == []


def test_a_missing_hub_model_is_found_before_the_base_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    error, loaded = refused("owner/model")
    assert "owner/model" in str(error)
    assert loaded == []


def test_another_vocabulary_is_found_before_the_base_is_measured(edited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "measure_original", lambda *_: pytest.fail("minutes were spent"))
    tokenizer = json.loads((edited / "tokenizer.json").read_text(encoding="utf-8"))
    token = next(iter(tokenizer["model"]["vocab"]))
    tokenizer["model"]["vocab"][f"{token}-"] = tokenizer["model"]["vocab"].pop(token)
    (edited / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    error, loaded = refused(str(edited), verify=False)
    assert "different vocabularies" in str(error)
    assert loaded == ["demo"]
