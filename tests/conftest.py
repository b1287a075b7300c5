"""What all tests share."""

import os
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch

# Pico models are too small to gain from threads; waiting for them made the suite several times slower.
torch.set_num_threads(1)

# No test may write to the home folder, also not while fixtures of a module or of the session are made.
os.environ["XDG_CONFIG_HOME"] = mkdtemp(prefix="heretic-tests-")


@pytest.fixture(autouse=True)
def configuration_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's configuration, so that no test finds another one's profiles."""
    folder = tmp_path_factory.mktemp("configuration")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder
