"""Wrong: in a working folder that is gone, a traceback. Right: a sentence that says so."""

from pathlib import Path

import pytest
from tests.integration.command import Command


@pytest.mark.parametrize("words", [("status",), ("behaviors",), ("--model", "demo")], ids=" ".join)
def test_a_folder_that_is_gone(heretic: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    result = heretic(folder, *words, before="import os\nos.rmdir(os.getcwd())\n")
    result.assert_one_sentence("working folder has been removed")
