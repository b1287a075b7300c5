"""What a model's files lead to: nothing pickled, outside or endless, and one sentence on what is wrong."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.models.model_folder import LoadSettings, save_pico

from heretic.common.errors import ModelError, UserError
from heretic.common.integrity import LARGEST_FOREIGN, MANIFEST_NAME, check_folder, read_foreign, read_manifest_file
from heretic.models.loader import load_model
from heretic.models.location import locate
from heretic.models.model_files import weight_files


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_pico(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def refused(folder: Path, **settings: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(str(folder), LoadSettings(**settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shard", "word"),
    [("evil.bin", "pickled"), ("../outside.safetensors", "outside"), ("other.safetensors.index.json", "pickled")],
)
@pytest.mark.parametrize("through", ["transformers_weights", "configuration_files", "index"])
def test_no_index_leads_to_pickled_weights_or_outside(folder: Path, shard: str, word: str, through: str) -> None:
    weights = load_file(folder / "model.safetensors")
    if shard == "evil.bin":
        torch.save(weights, folder / shard)
    save_file(weights, folder.parent / "outside.safetensors", metadata={"format": "pt"})
    index = json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, shard)})
    (folder / "other.safetensors.index.json").write_text(index, encoding="utf-8")
    if through == "index":
        (folder / "model.safetensors").unlink()
        (folder / "other.safetensors.index.json").rename(folder / "model.safetensors.index.json")
    elif through == "transformers_weights":
        change(folder / "config.json", transformers_weights="other.safetensors.index.json")
    else:
        shutil.copy(folder / "config.json", folder / "config.4.0.0.json")
        change(folder / "config.4.0.0.json", transformers_weights="other.safetensors.index.json")
        change(folder / "config.json", configuration_files=["config.4.0.0.json"])
    assert word in refused(folder)
    if word == "outside":
        assert word in refused(folder, allow_pickle=True)


@pytest.mark.parametrize("name", ["../config.4.0.0.json", "/etc/config.4.0.0.json"])
def test_a_configuration_outside_is_not_read(folder: Path, name: str) -> None:
    change(folder / "config.json", configuration_files=[name])
    assert "outside" in refused(folder)


def test_weights_of_another_name_are_listed_and_load(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    change(folder / "config.json", transformers_weights="other.safetensors")
    assert "other.safetensors" in weight_files(locate(str(folder)), None)
    assert load_model(str(folder), LoadSettings()).weights == "safetensors"


def test_an_adapter_of_a_repository_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "another/model"}', encoding="utf-8")

    def cached(_source: str, name: str, _revision: object, *, required: bool = True) -> str | None:
        return str(folder / name) if (folder / name).exists() else None

    monkeypatch.setattr("heretic.models.model_files.hub_file", cached)
    monkeypatch.setattr("heretic.models.checkpoint.hub_file", cached)
    with pytest.raises(ModelError, match="holds an adapter; download it and its base model"):
        load_model("owner/model", LoadSettings())


@pytest.mark.parametrize("value", ["owner/kernel", "owner/kernel@main:attention", {"text_config": "owner/kernel"}])
def test_code_for_layers_is_not_fetched_from_the_hub(folder: Path, value: Any) -> None:
    change(folder / "config.json", _attn_implementation=value)
    message = refused(folder)
    assert "owner/kernel" in message
    assert "--trust-remote-code" in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no name on Windows")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json", "chat_template.jinja"])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device"])
def test_a_pipe_or_a_device_is_not_opened(folder: Path, name: str, kind: str) -> None:
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        os.mkfifo(folder.parent / "pipe")
        (folder / name).symlink_to(folder.parent / "pipe")
    message = refused(folder)
    assert name in message
    assert "no ordinary file" in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no name on Windows")
@pytest.mark.parametrize("kind", ["pipe", "device", "huge"])
def test_a_manifest_is_read_only_if_ordinary_and_up_to_a_limit(folder: Path, kind: str) -> None:
    manifest = folder / MANIFEST_NAME
    if kind == "pipe":
        os.mkfifo(manifest)
    elif kind == "device":
        manifest.symlink_to("/dev/zero")
    else:
        with manifest.open("wb") as file:
            file.truncate(LARGEST_FOREIGN + 1)
    for read in (lambda: read_manifest_file(manifest), lambda: check_folder(folder)):
        with pytest.raises(UserError, match=r"no ordinary file|larger than"):
            read()
    with pytest.raises(ValueError, match=r"no ordinary file|larger than"):
        read_foreign(manifest)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**7},
        {"num_hidden_layers": 10**100},
        {"n_layers": 10**7},
        {"hidden_size": 10**9},
        {"vocab_size": 10**12},
        {"num_local_experts": 10**7},
        {"text_config": {"num_hidden_layers": 10**7}},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": -1},
        {"hidden_size": 0},
        {"vocab_size": -5},
    ],
    ids=str,
)
def test_sizes_that_the_weights_do_not_hold_are_refused_before_anything_is_built(
    folder: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(folder / "config.json", **changes)
    monkeypatch.setattr("heretic.models.loader.model_class", lambda _vision: pytest.fail("it was built"))
    message = refused(folder)
    assert message.startswith(f"The configuration of {folder} has ")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_hidden_layers": "many"}, "num_hidden_layers"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"hidden_size": [1]}, "hidden_size"),
        ({"layer_types": ["quantum_attention"] * 3}, "layer_types"),
        ({"layer_types": "full_attention"}, "layer_types"),
        ({"rope_parameters": {"rope_type": "new"}}, "new"),
        ({"hidden_act": "newact"}, "newact"),
        ({"num_attention_heads": 3}, "attention heads"),
        ({"num_attention_heads": 0}, "zero"),
        ({"model_type": ["x"]}, "list"),
        ({"auto_map": 3}, "int"),
        ({"transformers_weights": 3}, "int"),
    ],
    ids=str,
)
def test_a_configuration_that_transformers_refuses_is_one_sentence(
    folder: Path, changes: dict[str, Any], word: str
) -> None:
    change(folder / "config.json", **changes)
    message = refused(folder)
    assert word in message
    assert "newer one may know the model" in message
