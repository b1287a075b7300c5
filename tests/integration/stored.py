"""What the version before wrote (see tests/fixtures/README.md), and trials read from a study's file as plain values."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

FIXTURES = Path(__file__).parents[1] / "fixtures"


def fixture_json(*parts: str) -> Any:
    return json.loads(FIXTURES.joinpath(*parts).read_text(encoding="utf-8"))


def fixture_arguments(folder: str, name: str) -> list[str]:
    """The arguments of a stored command, without the option that changed nothing and is gone."""
    arguments = list(fixture_json(folder, "commands.json")[name])
    if "--max-response-length" in arguments:
        place = arguments.index("--max-response-length")
        del arguments[place : place + 2]
    return arguments


def copied(name: str, folder: Path) -> Path:
    """A copy of the study in tests/fixtures/study, since opening one to resume it writes to it."""
    return Path(shutil.copy(FIXTURES / "study" / name / "heretic_study.db", folder))


def with_options(arguments: list[str], **changed: str) -> list[str]:
    """The arguments with other values of options, which are added where there are none yet."""
    found = list(arguments)
    for name, value in changed.items():
        option = f"--{name.replace('_', '-')}"
        if option in found:
            found[found.index(option) + 1] = value
        else:
            found += [option, value]
    return found


def stored_trials(file: Path, name: str | None = None) -> list[dict[str, Any]]:
    """Every trial of a study, or of the only one, by number, in the form of tests/fixtures/same_seeds.

    What the record does not hold is None.
    """
    assert file.is_file()
    # Without a name there may be one study alone.
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{file}")
    found = []
    for trial in study.get_trials(deepcopy=False):
        record = trial.user_attrs.get("record") or dict.fromkeys(("state", "reason", "plan", "scores"))
        found.append(
            {
                "number": trial.number,
                "optuna_state": trial.state.name.lower(),
                "state": record["state"],
                "reason": record["reason"],
                "params": dict(trial.params),
                "values": trial.values,
                "intermediate_values": {str(step): value for step, value in trial.intermediate_values.items()},
                "plan": None if record["plan"] is None else plan_of(record["plan"]),
                "scores": record["scores"],
                "retried": trial.user_attrs.get("retried"),
            }
        )
    return found


def plan_of(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A plan without the table of strengths by layer, which the version before stored with every plan, empty."""
    assert not stored.get("strengths")
    return {name: value for name, value in stored.items() if name != "strengths"}
