"""A saved folder is its base as every reader sees it: keys, files and names."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.models.hub_style import HUB_CONFIGURATIONS, OTHER_FILES, auto_class, write_hub_folder
from tests.models.pico import build_pico
from tests.unit.export.conftest import all_logits, as_loaded
from tests.unit.export.other_programs import load_base

from heretic.export import base
from heretic.export.base import base_files, changed, older_rope
from heretic.export.content import ExportContent
from heretic.export.manifest import read_manifest
from heretic.export.weights import save_model
from heretic.models.access import same_bits
from heretic.models.loaded import LoadedModel
from heretic.observability.events import Event, Warned

BOTH_NAMES = {"dtype", "torch_dtype", "rope_parameters"}


def loaded_from(kind: str, folder: Path) -> LoadedModel:
    """A folder in the form of a repository, as the loader gives it."""
    write_hub_folder(kind, folder)
    return load_base(kind, folder)


def table(folder: Path, name: str = "config.json") -> dict[str, Any]:
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", HUB_CONFIGURATIONS)
def test_every_key_of_the_base_stays(kind: str, content: ExportContent, tmp_path: Path) -> None:
    loaded = loaded_from(kind, tmp_path / "base")
    saved = save_model(loaded, tmp_path / "out", content).path
    before, after = HUB_CONFIGURATIONS[kind], table(saved)
    for old, new in ((before, after), *((before[key], after[key]) for key in before if key.endswith("_config"))):
        assert {key: new.get(key) for key in old if not key.endswith("_config")} == {
            key: value for key, value in old.items() if not key.endswith("_config")
        }
        assert new.keys() - old.keys() <= BOTH_NAMES
    for name in ("generation_config.json", "tokenizer_config.json", "tokenizer.json", *OTHER_FILES):
        assert (saved / name).read_bytes() == (tmp_path / "base" / name).read_bytes(), name
    assert all(
        key.split(".")[-1] in BOTH_NAMES
        for key in read_manifest(saved).verification["differs_from_base"]["config.json"]
    )
    # Other programs find tensors by their names, see test_other_readers.py.
    expected, tensors = (load_file(folder / "model.safetensors") for folder in (tmp_path / "base", saved))
    assert tensors.keys() == expected.keys()
    assert all(same_bits(tensor, expected[name]) for name, tensor in tensors.items())
    reloaded = auto_class(kind).from_pretrained(saved, dtype="auto").eval()
    assert torch.equal(all_logits(reloaded, 100), all_logits(loaded.model, 100))


def test_what_the_edit_changes_is_changed_and_named(content: ExportContent, tmp_path: Path) -> None:
    loaded = loaded_from("gemma3", tmp_path / "base")
    loaded.model.to(torch.float32)
    loaded.model.config.text_config.query_pre_attn_scalar = 16
    saved = save_model(loaded, tmp_path / "out", content).path
    text = table(saved)["text_config"]
    assert (text["query_pre_attn_scalar"], text["rope_local_base_freq"]) == (16, 1000)
    assert (table(saved)["torch_dtype"], table(saved)["dtype"]) == ("float32", "float32")
    differences = read_manifest(saved).verification["differs_from_base"]["config.json"]
    assert differences["text_config.query_pre_attn_scalar"].startswith("changed")
    assert differences["torch_dtype"].startswith("changed")


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        ({"a": 1}, {"a": 1}, {"a": 0, "torch_dtype": "x", "sub": {"b": 2}}),
        ({"a": 1}, {"a": 3}, {"a": 3, "torch_dtype": "x", "sub": {"b": 2}}),
        ({"a": 1}, {}, {"torch_dtype": "x", "sub": {"b": 2}}),
        ({}, {"dtype": "y"}, {"a": 0, "dtype": "y", "torch_dtype": "y", "sub": {"b": 2}}),
        ({"sub": {"b": 1, "c": 1}}, {"sub": {"b": 1, "c": 2}}, {"a": 0, "torch_dtype": "x", "sub": {"b": 2, "c": 2}}),
    ],
)
def test_only_what_differs_in_memory_is_changed(then: dict, now: dict, expected: dict) -> None:
    assert changed({"a": 0, "torch_dtype": "x", "sub": {"b": 2}}, then, now) == expected


def test_without_a_base_both_forms_are_written(content: ExportContent, tmp_path: Path) -> None:
    saved = save_model(as_loaded(build_pico("qwen2_5_vl")), tmp_path / "vl", content).path
    text = table(saved)["text_config"]
    assert (text["rope_theta"], text["rope_scaling"]["mrope_section"]) == (10000.0, [1, 1, 2])
    saved = save_model(as_loaded(build_pico("gemma3_text")), tmp_path / "gemma", content).path
    flat = table(saved)
    assert (flat["rope_theta"], flat["rope_local_base_freq"]) == (1000000.0, 10000.0)
    assert (flat["torch_dtype"], flat["dtype"], "rope_scaling" in flat) == ("float32", "float32", False)


def test_older_words_of_a_scaled_rotation() -> None:
    rope = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6, "partial_rotary_factor": 0.5}
    assert older_rope(rope) == {
        "rope_theta": 1e6,
        "partial_rotary_factor": 0.5,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
    }


def test_names_of_other_machines_go(content: ExportContent, tmp_path: Path) -> None:
    loaded = loaded_from("llama3", tmp_path / "home" / "jane" / "models--a-maker--a-model" / "snapshots" / "0123")
    config = Path(loaded.source) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_name_or_path": "/home/jane/x/llama"}))
    saved = save_model(loaded, tmp_path / "out", content).path
    assert table(saved)["_name_or_path"] == "llama"
    assert read_manifest(saved).source["name"] == "a-maker/a-model"
    assert "a-maker/a-model" in (saved / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in saved.rglob("*") if path.is_file() and b"jane" in path.read_bytes()] == []


def test_links_that_lead_out_are_not_passed_on(content: ExportContent, tmp_path: Path, events: list[Event]) -> None:
    loaded = loaded_from("llama3", tmp_path / "base")
    (tmp_path / "private.json").write_text("{}")
    (tmp_path / "base" / "vocab.json").unlink()
    (tmp_path / "base" / "vocab.json").symlink_to(tmp_path / "private.json")
    saved = save_model(loaded, tmp_path / "out", content).path
    assert not (saved / "vocab.json").exists()
    assert any(isinstance(event, Warned) and "vocab.json" in event.message for event in events)


@pytest.mark.parametrize("is_online", [True, False])
def test_files_of_a_repository(
    is_online: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    write_hub_folder("llama3", snapshot)

    def listed(*_arguments: object, **_options: object) -> list[str]:
        if not is_online:
            raise ConnectionError("no network")
        return ["tokenizer.model", "model.safetensors", "README.md", "onnx/tokenizer.json", "config.json"]

    monkeypatch.setattr(base.HfApi, "list_repo_files", listed)
    monkeypatch.setattr(base, "find_file", lambda _location, name, _commit: snapshot / name)
    monkeypatch.setattr(base, "try_to_load_from_cache", lambda *_a, **_k: str(snapshot / "config.json"))
    files = base_files(as_loaded(build_pico("llama"), source="a/b", commit="0" * 40))
    if is_online:
        assert set(files) == {"tokenizer.model", "config.json"}
    else:
        assert set(OTHER_FILES) | {"config.json", "generation_config.json"} <= set(files)
        assert any(isinstance(event, Warned) for event in events)
