import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heretic.common.integrity import MANIFEST_NAME
from heretic.models.demo import DEMO_MODEL_FOLDER
from heretic.web.errors import ModelNotFoundError
from heretic.web.folders import find_models, look_at, original_of

INDEX = "model.safetensors.index.json"


def test_models_and_saved_folders_are_found_and_others_are_not(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(DEMO_MODEL_FOLDER, tmp_path / "models" / "plain")
    (tmp_path / "models" / "packed.GGUF").write_bytes(b"x" * 7)
    (tmp_path / "models" / "notes.txt").write_text("no model", encoding="utf-8")
    (tmp_path / "something else").mkdir()
    found = {model.shown: model for model in find_models(tmp_path / "models", tmp_path)}
    assert set(found) == {"plain", "packed.GGUF", "saved", "demo-edited", "demo"}
    assert not any(model.problem for model in found.values())
    assert found["packed.GGUF"].bytes == 7
    assert found["plain"].bytes == (DEMO_MODEL_FOLDER / "model.safetensors").stat().st_size
    assert found["saved"].base == "demo"
    assert "refusal" in found["saved"].line
    assert "trial 4" in found["saved"].line


def test_a_folder_of_models_need_not_exist(tmp_path: Path) -> None:
    assert [model.name for model in find_models(tmp_path / "nowhere", tmp_path)] == ["demo-edited", "demo"]


def test_the_bundled_edit_is_told_by_its_manifest() -> None:
    found = look_at("demo-edited")
    assert (found.base, found.behavior, found.goal, found.problem) == ("demo", "demo", "remove", "")
    assert "refusals 0/100" in found.measured
    assert original_of(found, Path("nowhere")) == "demo"


def shards(folder: Path) -> None:
    weights = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": weights}), encoding="utf-8")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")


def shorten(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(5000)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    "no type": (lambda folder: (folder / "config.json").write_text("{}"), "model_type"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "half the weights": (shorten, "cut off"),
    "no header": (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 100), "cut off"),
    "a missing shard": (shards, "model-2.safetensors"),
    "an index that leads outside": (
        lambda folder: (
            (folder / "model.safetensors")
            .rename(folder / INDEX)
            .write_text('{"weight_map": {"a": "../x.safetensors"}}')
        ),
        "outside",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_with_a_folder_is_said(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DEMO_MODEL_FOLDER, folder)
    assert not look_at(str(folder)).problem
    breaks, named = BROKEN[kind]
    breaks(folder)
    assert named in look_at(str(folder)).problem


def test_a_folder_that_is_not_as_its_manifest_says_is_not_used(saved: Path) -> None:
    (saved / "README.md").write_text("A card is nobody's business.", encoding="utf-8")
    assert not look_at(str(saved)).problem
    (saved / "chat_template.jinja").write_text("other", encoding="utf-8")
    assert "chat_template.jinja" in look_at(str(saved)).problem


def test_the_original_is_found_beside_the_folder_or_among_the_models(saved: Path, tmp_path: Path) -> None:
    assert original_of(look_at(str(saved)), tmp_path / "models") == "demo"
    manifest = json.loads((saved / MANIFEST_NAME).read_text(encoding="utf-8"))
    (saved / MANIFEST_NAME).write_text(json.dumps(manifest | {"source": {"name": "base"}}), encoding="utf-8")
    with pytest.raises(ModelNotFoundError, match="base"):
        original_of(look_at(str(saved)), tmp_path / "models")
    for place in (tmp_path / "models" / "base", tmp_path / "base"):
        place.mkdir(parents=True)
        assert original_of(look_at(str(saved)), tmp_path / "models") == str(place)
    with pytest.raises(ModelNotFoundError, match="--model"):
        original_of(look_at("demo"), tmp_path)


def test_looking_at_models_imports_no_torch() -> None:
    code = "import sys, heretic.web.folders, heretic.web.guard, heretic.web.server, heretic.web.markup; "
    code += "assert not {'torch', 'transformers', 'gradio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "held_out", [{"behaviors": [{}]}, {"tokens": 10**400, "behaviors": [], "kl": []}, [1], "x" * 1000]
)
def test_a_manifest_whose_measurements_cannot_be_read_hides_no_model(saved: Path, held_out: object) -> None:
    manifest = json.loads((saved / MANIFEST_NAME).read_text(encoding="utf-8"))
    (saved / MANIFEST_NAME).write_text(json.dumps(manifest | {"held_out": held_out}), encoding="utf-8")
    found = look_at(str(saved))
    assert (found.problem, found.base) == ("", "demo")
    assert "cannot be read" in found.measured
