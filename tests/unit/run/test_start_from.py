"""A search that begins with a saved edit: what of it becomes the first trial, what is said, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from tests.unit.search.studies import PLAN, SPACE

from heretic.common.errors import UserError
from heretic.common.integrity import MANIFEST_NAME
from heretic.config import Settings
from heretic.edits.writer import ATTENTION, MLP
from heretic.observability.events import Event, StartedFrom, Warned, subscribed
from heretic.results.plan import EditPlan, Normalization, Schedule
from heretic.run.start_from import Start, not_carried_over, read_start, start_from
from heretic.search.space import SearchSpace

SAVED = Path(__file__).parents[2] / "fixtures" / "saved" / "merged"
MANIFEST = json.loads((SAVED / MANIFEST_NAME).read_text(encoding="utf-8"))


def bench_of(folder: object, space: SearchSpace = SPACE) -> Any:
    pack = SimpleNamespace(name="refusal")
    return SimpleNamespace(
        settings=Settings(model="demo", start_from=str(folder)),
        space=space,
        prompts=SimpleNamespace(behaviors=[SimpleNamespace(pack=pack)]),
    )


def started(bench: Any, study: optuna.Study) -> list[Event]:
    seen: list[Event] = []
    with subscribed(seen.append):
        start_from(bench, study)
    return seen


def changed(folder: Path, **parts: Any) -> Path:
    """A folder with the manifest of the saved one, but for these parts."""
    folder.mkdir()
    (folder / MANIFEST_NAME).write_text(json.dumps({**MANIFEST, **parts}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", [".", MANIFEST_NAME, "README.md"])
def test_the_first_trial_has_the_saved_plan_and_the_sampler_the_rest(name: str) -> None:
    study = optuna.create_study()
    place = SAVED / name
    assert started(bench_of(place), study) == [StartedFrom(str(place), "models/llama", ())]
    assert [SPACE.suggest(study.ask()), len(study.trials)] == [EditPlan.from_json(MANIFEST["plan"]), 1]


def test_a_resumed_study_gets_nothing_twice_and_another_one_is_told_why_not() -> None:
    study, bench = optuna.create_study(), bench_of(SAVED)
    started(bench, study)
    assert started(bench, study) == []
    study.tell(study.ask(), 1.0)
    assert started(bench, study) == []
    other = optuna.create_study()
    other.tell(other.ask(), 1.0)
    (warned,) = started(bench, other)
    assert isinstance(warned, Warned)
    assert "--study-name" in warned.message
    assert [len(study.trials), len(other.trials)] == [1, 1]


def test_without_the_setting_nothing_happens() -> None:
    bench, study = bench_of(SAVED), optuna.create_study()
    bench.settings = Settings(model="demo")
    assert (started(bench, study), study.trials) == ([], [])
    assert "start_from" not in Settings.aspects()


START = Start(PLAN, "owner/model", ("refusal",))


@pytest.mark.parametrize(
    ("start", "space", "words"),
    [
        (START, SPACE, []),
        (START, replace(SPACE, components=(ATTENTION,)), ["the strengths of mlp, which is not edited here"]),
        (replace(START, plan=replace(PLAN, schedules=PLAN.schedules[:1])), SPACE, ["mlp has no strengths there"]),
        (
            replace(START, plan=replace(PLAN, direction_position=0.95)),
            SPACE,
            ["direction_position 0.95, which becomes 0.9"],
        ),
        (
            replace(START, plan=replace(PLAN, schedules=((ATTENTION, Schedule(9, 0.6, 0.2, 0.3)), PLAN.schedules[1]))),
            SPACE,
            ["attention.peak_weight 9, which becomes 1.6"],
        ),
        (START, replace(SPACE, normalization=Normalization.NONE), ["normalization row, which is none here"]),
        (START, replace(SPACE, fixed_position=0.5), ["those found at depth 0.5"]),
        (replace(START, behaviors=("hedging",)), SPACE, ["its behaviour hedging, which is refusal here"]),
        (replace(START, plan=replace(PLAN, shares=(0.2, 0.8))), SPACE, ["another number of behaviours"]),
    ],
)
def test_each_part_that_is_not_carried_over_is_said(start: Start, space: SearchSpace, words: list[str]) -> None:
    clauses = not_carried_over(start, space, ["refusal"])
    assert len(clauses) == len(words)
    assert all(word in clause for word, clause in zip(words, clauses, strict=True))
    # It is told of exactly the plans that the first trial does not have.
    study = optuna.create_study()
    study.enqueue_trial(space.parameters(start.plan))
    first = space.suggest(study.ask())
    assert (first == start.plan) == (not clauses or start.behaviors != ("refusal",))


def test_shares_of_as_many_behaviours_are_carried_over_and_those_of_others_drawn() -> None:
    space = replace(SPACE, behaviors=2)
    both = replace(PLAN, shares=(0.2, 0.8))
    assert not_carried_over(Start(both, "", ("one", "two")), space, ["one", "two"]) == ()
    assert space.parameters(both)["behavior.1.share"] == 0.8
    assert not [name for name in space.parameters(replace(PLAN, shares=(0.1, 0.2, 0.3))) if name.startswith("behavior")]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"plan": {}}, "damaged or too new"),
        ({"plan": {**MANIFEST["plan"], "schedules": {MLP: {}}}}, "peak_weight must be a finite number"),
        ({"plan": {**MANIFEST["plan"], "strengths": {"mlp": {"0": 1.0}}}}, "free strengths by layer"),
        ({"settings": {"goal": "strengthen"}}, "give the goal that it was made with"),
        ({"format": "checksums"}, "holds checksums only"),
        ({"source": 3}, "damaged or too new"),
    ],
    ids=str,
)
def test_an_edit_that_no_search_can_begin_with_is_refused(parts: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read_start(str(changed(tmp_path / "out", **parts)), "remove")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_report_is_answered_with_what_to_name(tmp_path: Path) -> None:
    shutil.copytree(SAVED.with_name("merged_report"), tmp_path / "report")
    with pytest.raises(UserError, match="name a folder that Heretic saved"):
        read_start(str(tmp_path / "report"), "remove")
    # An edit of a version that knew one goal.
    folder = changed(tmp_path / "out", settings={})
    assert read_start(str(folder), "remove").behaviors == ("refusal",)
