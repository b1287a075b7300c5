"""What tests of the command line share."""

from pathlib import Path

import pytest
from tests.integration.command import write_prompts
from tests.unit.models.model_folder import save_pico


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with prompts and the model `pico`, see `QUICK_PICO`."""
    write_prompts(tmp_path)
    save_pico(tmp_path / "pico")
    return tmp_path
