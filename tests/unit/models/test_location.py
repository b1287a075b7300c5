from pathlib import Path

import pytest

from heretic.common.errors import ModelError
from heretic.models.demo import DEMO_EDIT_FOLDER, DEMO_MODEL_FOLDER
from heretic.models.location import Location, edited_name, locate, shown_model


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))


def folder_with(path, *files):
    path.mkdir(parents=True)
    for file in files:
        (path / file).touch()
    return path


def test_the_bundled_model():
    assert locate("demo") == Location("demo", str(DEMO_MODEL_FOLDER))
    assert locate("demo-edited") == Location("demo-edited", str(DEMO_MODEL_FOLDER), adapter=str(DEMO_EDIT_FOLDER))
    assert shown_model("demo-edited") == "demo-edited"


def test_a_folder_named_like_the_bundled_model_is_named_as_a_path(tmp_path):
    folder_with(tmp_path / "demo", "config.json")
    assert locate("demo").source == str(DEMO_MODEL_FOLDER)
    assert locate("./demo").source == "demo"


@pytest.mark.parametrize("name", ["model", "./model", "~/model", "owner/model"])
def test_folders(tmp_path, name):
    folder_with(tmp_path / "model", "config.json")
    folder_with(tmp_path / "owner" / "model", "config.json")
    location = locate(name)
    assert not location.is_hub
    assert location.name == name
    assert "~" not in location.source


def test_gguf_files(tmp_path):
    folder_with(tmp_path / "models", "tiny.Q4_K_M.gguf")
    assert locate("models/tiny.Q4_K_M.gguf") == Location(
        "models/tiny.Q4_K_M.gguf", "models", gguf_file="tiny.Q4_K_M.gguf"
    )


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen3-4B-Instruct-2507", "01-ai/Yi-1.5-6B", "a/b_c.d-e"])
def test_hub_ids(name):
    assert locate(name) == Location(name, name, is_hub=True)


@pytest.mark.parametrize(
    "name",
    ["./model", "../model", "/no/model", "~/no", r"C:\models\x", "a/b/c", "no.gguf", "owner/no.GGUF", "a b", "-x"],
)
def test_what_can_only_be_a_path_has_to_exist(name):
    with pytest.raises(ModelError, match=r"There is no folder or file .* check the path"):
        locate(name)


def test_a_folder_without_a_model(tmp_path):
    folder_with(tmp_path / "empty")
    with pytest.raises(ModelError, match=r"holds no config\.json, so it is no transformers model; name the folder"):
        locate("empty")


def test_a_folder_with_only_a_gguf_file_says_which_file_to_name(tmp_path):
    folder_with(tmp_path / "packed", "m.gguf")
    with pytest.raises(ModelError, match=r"name the file packed.m\.gguf"):
        locate("packed")


def test_a_folder_with_an_adapter_that_cannot_be_read(tmp_path):
    folder_with(tmp_path / "lora", "adapter_config.json")
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be read"):
        locate("lora")


def test_a_file_that_is_no_model(tmp_path):
    folder_with(tmp_path / "m", "model.safetensors")
    with pytest.raises(ModelError, match="is a file; name the model's folder"):
        locate("m/model.safetensors")


@pytest.mark.parametrize("name", ["a" * 5000, "\x01" * 300, "a/" + "b" * 300])
def test_a_name_too_long_for_a_file_is_no_path(name):
    if name.isprintable():
        assert locate(name) == Location(name, name, is_hub=True)
        assert shown_model(name) == name
    else:
        assert shown_model(name)
        with pytest.raises(ModelError, match="no folder or file"):
            locate(name)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("owner/model", "model-heretic"),
        ("folder/model/", "model-heretic"),
        ("some/Model.Q8.GGUF", "Model.Q8-heretic"),
        (".", "here-heretic"),
    ],
)
def test_edited_name(model: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert edited_name(model) == name
