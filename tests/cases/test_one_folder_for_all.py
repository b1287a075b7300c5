"""Wrong: a study or another file of the run in the folder that the model is saved to is refused after the whole search.

Right: before it. The kind: tests/unit/run/test_preflight.py.
"""

from pathlib import Path

import pytest
from tests.cases.conftest import Run


@pytest.mark.parametrize(
    "more",
    [
        ("--storage", "sqlite:///out/study.db"),
        ("--metrics-file", "out/heretic.prom"),
        ("--save-directions", "out/d.safetensors"),
        ("--log-file", "out/heretic.log"),
    ],
    ids=lambda more: more[0],
)
def test_everything_in_one_folder(run: Run, tmp_path: Path, more: tuple[str, str]) -> None:
    (tmp_path / "out").mkdir()
    run(*more).assert_one_sentence("that folder appears only when the model is saved", more[0])
    assert list((tmp_path / "out").iterdir()) == []
