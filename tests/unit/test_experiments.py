"""What experiments/ holds can be run as it stands there."""

from pathlib import Path

import pytest

from heretic.config import load_settings
from heretic.run.preflight import preflight

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = sorted(ROOT.glob("experiments/*/config.toml"))
SCRIPTS = sorted(ROOT.glob("experiments/*/run.sh"))


def test_every_behaviour_study_has_a_script() -> None:
    names = {"refusal", "verbosity", "verbosity_v2", "hedging", "sycophancy", "meta_commentary"}
    assert names <= {path.parent.name for path in SCRIPTS} <= {path.parent.name for path in CONFIGURATIONS}


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_its_settings_and_prompts_are_whole(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As run.sh does.
    monkeypatch.chdir(ROOT)
    settings = load_settings(["--model", "demo", "--config", str(path.relative_to(ROOT))], {}, ROOT).settings
    preflight(settings.model_copy(update={"auto_select_path": str(tmp_path / "out")}))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name)
def test_its_readme_names_the_command(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert f"experiments/{script.parent.name}/run.sh MODEL" in script.with_name("README.md").read_text(encoding="utf-8")
