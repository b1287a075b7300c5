"""Wrong: a working folder whose name is no UTF-8 is found out while saving. Right: it is refused at the start."""

import os
import sys
from pathlib import Path

import pytest
from tests.integration.command import Command


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_folder_whose_name_is_no_text(heretic: Command, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    heretic(folder, "--model", "demo").assert_one_sentence("UTF-8")
    assert list(folder.iterdir()) == []
