"""Wrong: variables that docker compose passes on as empty text end the run. Right: they count as not set.

The kind: tests/unit/config/test_load.py.
"""

from pathlib import Path

import pytest

from heretic.config.load import load_settings

EMPTY = ("HERETIC_SEED", "HERETIC_N_STARTUP_TRIALS", "HERETIC_LOG_FILE", "HERETIC_METRICS_PORT")


@pytest.mark.parametrize("names", [EMPTY, EMPTY[:1]])
def test_empty_variables_are_not_set(names: tuple[str, ...], tmp_path: Path) -> None:
    assert (
        load_settings(["--model", "demo"], dict.fromkeys(names, ""), tmp_path).settings
        == load_settings(["--model", "demo"], {}, tmp_path).settings
    )
