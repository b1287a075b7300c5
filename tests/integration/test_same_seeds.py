"""The same seeds give the same trials as in the version before, see tests/fixtures/README.md."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.integration.command import Command
from tests.integration.stored import FIXTURES, fixture_arguments, fixture_json, plan_of, stored_trials, with_options

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        optuna.__version__.split(".")[:2] != ["5", "0"],
        reason="the stored trials were sampled by Optuna 5.0; another version may sample others",
    ),
]

NATS = {"rel": 5e-3, "abs": 2e-6}
"""How far divergences may differ: rounding depends on the processor and on torch."""


@pytest.mark.parametrize(
    ("name", "n_trials"),
    # Six random trials each, then TPE.
    [("demo", 9), ("demo_rdo", 7), ("llama", 12), ("qwen3_moe", 12), ("gemma2", 12), ("llama_inplace", 9)],
)
def test_the_same_seed_gives_the_same_trials(heretic: Command, tmp_path: Path, name: str, n_trials: int) -> None:
    for needed in ("models", "prompts"):
        (tmp_path / needed).symlink_to(FIXTURES / "same_seeds" / needed)
    arguments = fixture_arguments("same_seeds", name)
    heretic(tmp_path, *with_options(arguments, n_trials=str(n_trials))).assert_done()
    found = stored_trials(tmp_path / "heretic_study.db")
    expected = fixture_json("same_seeds", f"{name}.json")["trials"]
    assert len(found) == n_trials
    for trial, before in zip(found, expected, strict=False):
        compare(trial, before)


def compare(found: dict[str, Any], before: dict[str, Any]) -> None:
    """States, parameters, plans and counts exactly; divergences with a tolerance."""
    for key in ("number", "optuna_state", "state", "reason", "params"):
        assert found[key] == before[key], (before["number"], key)
    assert found["plan"] == plan_of(before["plan"])
    assert found["values"] == pytest.approx(before["values"], **NATS)
    assert [score["name"] for score in found["scores"]] == [score["name"] for score in before["scores"]]
    for score, stored in zip(found["scores"], before["scores"], strict=True):
        exact = score["name"] != "kl"
        for key in ("n", "baseline", *(("value",) if exact else ())):
            assert score[key] == stored[key], (before["number"], score["name"], key)
        if exact:
            assert score["details"].items() >= stored["details"].items()
        else:
            assert score["value"] == pytest.approx(stored["value"], **NATS)
            assert score["details"]["positions"] == stored["details"]["positions"]
