"""What tests with other people's programs share: their installation, and a model saved beside its base."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.models.hub_style import auto_class, write_hub_folder
from tests.unit.export.conftest import as_loaded
from transformers import AutoTokenizer

from heretic.export.content import ExportContent
from heretic.export.weights import save_model
from heretic.models.checkpoint import prepared_tokenizer
from heretic.models.loaded import LoadedModel

_ROPE = ("rope_theta", "rope_scaling", "rope_parameters")


def install(folder: Path, *command: str) -> None:
    """Run an installer in a folder; the test is skipped with its reason where it cannot do its work."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} cannot install what this test needs: {done.stderr[-300:]}")


def install_python(folder: Path, *packages: str) -> None:
    """Install Python packages in a folder of their own, to stand before or beside those of the tests."""
    if shutil.which("uv") is None:
        pytest.skip("uv is needed to install other programs")
    install(folder, "uv", "pip", "install", "--python", sys.executable, "--target", str(folder), "--no-deps", *packages)


def run(folder: Path, *command: str, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a program that ends well; else the test fails with the end of its errors."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def load_base(kind: str, folder: Path) -> LoadedModel:
    """What the loader gives of a folder in the form of a repository."""
    model = auto_class(kind).from_pretrained(folder, dtype="auto").eval().requires_grad_(False)
    tokenizer = prepared_tokenizer(AutoTokenizer.from_pretrained(folder))
    return as_loaded(model, tokenizer, name=str(folder), source=str(folder))


def save_beside_base(kind: str, folder: Path, content: ExportContent) -> None:
    """Write `base` in the form of a repository, and `saved` from it."""
    write_hub_folder(kind, folder / "base")
    save_model(load_base(kind, folder / "base"), folder / "saved", content)


def write_damaged(models: Path, kind: str) -> str:
    """Beside the kind a copy of it whose saved model has lost its rotary positions; the copy's name.

    A reader falls back to its defaults without a word, so a test that compares must see this copy differ.
    """
    name = f"damaged_{kind}"
    shutil.copytree(models / kind, models / name)
    path = models / name / "saved" / "config.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({key: value for key, value in table.items() if key not in _ROPE}), encoding="utf-8")
    return name
