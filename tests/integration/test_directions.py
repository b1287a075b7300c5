"""Directions as files, through the whole command: saved, loaded, shown, and refused where they do not fit."""

from pathlib import Path

import pytest
from tests.integration.command import QUICK_DEMO, Command, saving_to
from tests.unit.directions.direction_sets import random_set

from heretic.directions.files import write_direction_file

pytestmark = pytest.mark.integration


def test_saved_directions_are_loaded_compared_and_added(heretic: Command, tmp_path: Path) -> None:
    heretic(tmp_path, *QUICK_DEMO, *saving_to("first"), "--save-directions", "d.safetensors").assert_done()
    loaded = heretic(tmp_path, *QUICK_DEMO, *saving_to("second"), "--load-directions", "d.safetensors")
    loaded.assert_done()
    assert "loaded from d.safetensors" in loaded.output
    assert "Warning: The study demo was made with another way of finding directions" in loaded.output
    # The same directions make the same edits.
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("first", "second")]
    assert weights[0] == weights[1]
    again = heretic(
        *(tmp_path, *QUICK_DEMO, *saving_to("third"), "--load-directions", "d.safetensors"),
        *("--storage", "sqlite:///own.db", "--n-trials", "1", "--start-from", "first/README.md"),
    )
    again.assert_done()
    assert "trial 1 takes the plan of first/README.md, made for demo" in again.output
    assert "not carried over" not in again.output
    assert (tmp_path / "third" / "model.safetensors").read_bytes() == weights[0]

    shown = heretic(tmp_path, "directions", "d.safetensors", "--plots", "plots")
    shown.assert_done()
    assert "demo, float32; fingerprint" in shown.output
    assert "* Best layers by separation" in shown.output
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"curves.png", "projections.png"}


def test_directions_of_another_shape_end_before_the_search(heretic: Command, tmp_path: Path) -> None:
    write_direction_file(tmp_path / "d.safetensors", random_set(0))
    result = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), "--load-directions", "d.safetensors")
    result.assert_one_sentence("3 layers of width 8", "demo has 6 layers of width 128")
    assert {path.name for path in tmp_path.iterdir()} == {"d.safetensors"}


def test_a_missing_file_ends_before_the_model_is_loaded(heretic: Command, tmp_path: Path) -> None:
    result = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), "--load-directions", "gone.safetensors")
    result.assert_one_sentence("There is no file gone.safetensors")
    assert "Loading" not in result.output
