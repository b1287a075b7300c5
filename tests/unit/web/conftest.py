import json
import shutil
from pathlib import Path

import pytest

from heretic.common.integrity import MANIFEST_NAME, checksums, files_of
from heretic.models.demo import DEMO_MODEL_FOLDER


def manifest_of(folder: Path, base: str) -> dict[str, object]:
    entries = checksums(files_of(folder))
    files = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in entries.items()}
    return {
        "manifest_version": 1,
        "source": {"name": base},
        "format": "merged",
        "behavior": "refusal",
        "trial": 4,
        "scores": [],
        "held_out": None,
        "files": files,
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A copy of the demo model with the manifest of an edited one."""
    folder = tmp_path / "saved"
    shutil.copytree(DEMO_MODEL_FOLDER, folder)
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest_of(folder, "demo")), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with other weights in its last layers, as if Heretic had saved it."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("models") / "edited"
    shutil.copytree(DEMO_MODEL_FOLDER, folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    generator = torch.Generator().manual_seed(0)
    for name, value in tensors.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            noise = torch.randn(value.shape, generator=generator).to(value.dtype)
            tensors[name] = value + noise * value.float().std().to(value.dtype)
    save_file(tensors, path, metadata={"format": "pt"})
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest_of(folder, "demo")), encoding="utf-8")
    return folder
