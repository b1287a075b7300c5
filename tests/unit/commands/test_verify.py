"""``heretic verify`` and ``heretic checksum`` as a user meets them: output, exit codes, and what is written."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from heretic.commands import checksum as checksum_command
from heretic.commands import verify as verify_command
from heretic.common.errors import UserError
from heretic.common.integrity import MANIFEST_NAME
from heretic.interface.printer import Printer
from heretic.models.demo import DEMO_EDIT_FOLDER


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "nested").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (folder / "nested" / "extra.txt").write_text("x")
    return folder


def verify(folder: Path) -> tuple[int, str]:
    file = io.StringIO()
    code = verify_command.COMMAND([str(folder)], Printer(Console(file=file, width=80)))
    return code, file.getvalue()


def checksum(folder: Path, replace: bool = False) -> str:
    file = io.StringIO()
    argv = [str(folder), *(["--replace"] if replace else [])]
    assert checksum_command.COMMAND(argv, Printer(Console(file=file, width=80))) == 0
    return file.getvalue()


def test_the_bundled_edit_is_whole() -> None:
    code, output = verify(DEMO_EDIT_FOLDER)
    assert code == 0
    assert "Every file is as in the manifest." in output


def test_a_folder_is_whole_until_a_file_changes_goes_or_comes(model: Path) -> None:
    checksum(model)
    code, output = verify(model)
    assert code == 0
    assert "Every file is as in the manifest." in output
    (model / "model.safetensors").write_bytes(bytes(999) + b"\1")
    (model / "config.json").unlink()
    (model / "new file").write_text("x")
    code, output = verify(model)
    assert code == 1
    states = {line.split()[0]: line for line in output.splitlines() if line.startswith("  ") and "heretic" not in line}
    assert "model.safetensors" in states["changed"]
    assert "config.json" in states["missing"]
    assert "new file" in states["extra"]
    assert "nested/extra.txt" in states["ok"]
    assert f"heretic checksum {model} --replace" in output.replace("\n", "")


def test_what_lies_beside_a_model_is_named_and_not_refused(model: Path) -> None:
    (model / "README.md").write_text("card")
    checksum(model)
    (model / "README.md").write_text("an edited card")
    beside = ("._config.json", ".nfs0001", "model.Q4_K_M.gguf", ".ipynb_checkpoints/x-checkpoint.json", "nested/._x")
    for name in beside:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("x")
    code, output = verify(model)
    assert code == 0
    lines = {line.split()[1]: line.split()[0] for line in output.splitlines() if line.startswith("  ")}
    assert {name: lines[name] for name in beside} == dict.fromkeys(beside, "extra")
    assert (lines["README.md"], lines["config.json"]) == ("changed", "ok")


def test_what_is_listed_is_as_listed_whatever_it_is_called(model: Path) -> None:
    (model / "model.gguf").write_text("weights")
    checksum(model)
    (model / "model.gguf").write_text("Weights")
    assert verify(model)[0] == 1


def test_checksums_are_replaced_only_when_asked_and_keep_the_rest_of_the_manifest(model: Path) -> None:
    checksum(model)
    path = model / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "source": {"model": "a/b"}}))
    (model / "config.json").write_text('{"changed": true}')
    before = path.read_text()
    with pytest.raises(UserError, match="--replace"):
        checksum(model)
    assert path.read_text() == before
    checksum(model, replace=True)
    assert json.loads(path.read_text())["source"] == {"model": "a/b"}
    assert verify(model)[0] == 0


def test_a_damaged_manifest_is_named_and_can_be_replaced(model: Path) -> None:
    (model / MANIFEST_NAME).write_text("{")
    with pytest.raises(UserError, match=MANIFEST_NAME):
        verify(model)
    checksum(model, replace=True)
    assert verify(model)[0] == 0


@pytest.mark.parametrize("run", [verify, checksum])
def test_folders_that_are_none_are_named(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name, words in (("gone", "no folder"), ("file", "is a file"), ("nul\0", "cannot be used")):
        with pytest.raises(UserError, match=words) as caught:
            run(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_folder_without_manifest_or_model(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="heretic checksum"):
        verify(model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no model"):
        checksum(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []
