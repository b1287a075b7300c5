"""A short run of scripts/fuzz.py, where atheris is installed; nightly it takes all targets, and longer."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.fuzz.targets import SLOW_TARGETS, TARGETS

SCRIPT = Path(__file__).parents[3] / "scripts" / "fuzz.py"


# Starting takes longer than the run; test_fuzz.py has all targets.
@pytest.mark.slow
@pytest.mark.parametrize("target", [next(iter(TARGETS)), next(iter(SLOW_TARGETS))])
def test_nothing_is_found_in_a_moment(tmp_path, target):
    pytest.importorskip("atheris")
    result = subprocess.run(
        [sys.executable, str(SCRIPT), target, "2"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Done " in result.stderr
