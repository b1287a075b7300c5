"""What a search begins with and leaves behind, without a model: only its configuration matters here."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from tests.unit.search.studies import PLAN, SPACE, failed, record
from transformers import Gemma3Config, GPT2Config, Qwen2_5_VLConfig, Qwen2Config

from heretic.common.errors import UserError
from heretic.config import Settings
from heretic.observability.events import Event, ProfilesKept, WarmStarted, Warned, subscribed
from heretic.results.plan import EditPlan, Normalization, Scope
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialRecord, TrialState
from heretic.run.preflight import check_files
from heretic.run.warm_start import model_family, remember, shown_model, warm_start
from heretic.search.profile_store import read_store
from heretic.search.profiles import shipped_profiles

HUB = "Qwen/Qwen2.5-0.5B-Instruct"


def bench_of(
    config: Any = None,
    name: str = HUB,
    layers: int = 24,
    baselines: tuple[Score, ...] = (Score("refusals", 50, 100, 50),),
    **settings: Any,
) -> Any:
    return SimpleNamespace(
        settings=Settings(model=name, **{"use_shipped_profiles": True, **settings}),
        loaded=SimpleNamespace(name=name, model=SimpleNamespace(config=config or Qwen2Config())),
        runner=SimpleNamespace(layout=SimpleNamespace(layer_count=layers)),
        space=SPACE,
        behaviors=tuple(SimpleNamespace(baseline=baseline) for baseline in baselines),
    )


def good(number: int, refusals: float = 5, kl: float = 0.02, plan: EditPlan | None = None) -> TrialRecord:
    """A record with a plan of its own."""
    return replace(record(number, refusals, kl), plan=plan or replace(PLAN, direction_position=(40 + number) / 100))


def started(bench: Any) -> tuple[list[EditPlan], list[Event]]:
    """The plans that a new study begins with, and what is said of it."""
    study = optuna.create_study(directions=["minimize"] * 2, sampler=optuna.samplers.RandomSampler(seed=1))
    seen: list[Event] = []
    with subscribed(seen.append):
        warm_start(bench, study)
    waiting = len(study.trials)
    return [bench.space.suggest(study.ask()) for _ in range(waiting)], seen


def remembered(bench: Any, *records: TrialRecord) -> list[Event]:
    seen: list[Event] = []
    with subscribed(seen.append):
        remember(bench, records)
    return seen


def store_in(folder: Path) -> Path:
    return folder / "heretic" / "profiles.toml"


@pytest.mark.parametrize(
    ("config", "name", "family"),
    [
        (Qwen2Config(), "owner/llama-in-name-only", "qwen"),
        (Qwen2_5_VLConfig(), "owner/seeing", "qwen"),
        (Gemma3Config(), "owner/x", "gemma"),
        (GPT2Config(), "qwen", "others"),
        (Qwen2Config(), "demo", "demo"),
    ],
)
def test_the_family_comes_from_the_configuration(config: Any, name: str, family: str) -> None:
    assert model_family(bench_of(config, name)) == family


def test_the_first_search_begins_with_shipped_plans() -> None:
    plans, seen = started(bench_of())
    shipped = [own.edit_plan(Normalization.ROW) for own in shipped_profiles("qwen")[:3]]
    assert [replace(own, direction_position=None) for own in plans] == [
        replace(own, direction_position=None) for own in shipped
    ]
    assert [own.direction_position for own in plans if own.scope is Scope.GLOBAL] == [
        own.direction_position for own in shipped if own.scope is Scope.GLOBAL
    ]
    assert seen == [WarmStarted("qwen", 0, 3)]


def test_shipped_plans_are_only_used_where_they_are_asked_for() -> None:
    assert not Settings(model=HUB).use_shipped_profiles
    assert started(bench_of(use_shipped_profiles=False)) == ([], [])
    remembered(bench_of(), good(0))
    assert started(bench_of(use_shipped_profiles=False))[1] == [WarmStarted("qwen", 1, 0)]


def test_the_next_model_of_the_family_begins_with_the_users_own(configuration_folder: Path) -> None:
    (kept,) = remembered(bench_of(), good(0, 5), good(1, 4, 0.03))
    assert kept == ProfilesKept(str(store_in(configuration_folder)), "qwen", 2)
    another = bench_of(name="Qwen/Qwen2.5-7B-Instruct", layers=28)
    plans, seen = started(another)
    # The nearest to the goal first.
    assert plans[:2] == [good(1).plan, good(0).plan]
    assert seen == [WarmStarted("qwen", 2, 1)]
    assert started(bench_of(Gemma3Config()))[1] == [WarmStarted("gemma", 0, 3)]


def test_an_entry_tells_what_was_measured(configuration_folder: Path) -> None:
    remembered(bench_of(), good(0, 5, 0.0212345678))
    (own,) = read_store(store_in(configuration_folder))
    assert (own.family, own.model, own.layers, own.goal) == ("qwen", HUB, 24, "remove")
    assert (own.prompts, own.refusals_before, own.refusals_after) == (100, 50, 5)
    assert (own.kl, own.kl_mode, own.normalization) == (0.021235, "sequence", Normalization.ROW)
    assert own.edit_plan(Normalization.ROW) == good(0).plan


def test_refusals_are_refusals_also_where_they_are_strengthened(configuration_folder: Path) -> None:
    scores = Scores((Score("without_refusal", 4, 100, 30.0),), Score("kl", 0.02, 100, 0.0))
    bench = bench_of(goal="strengthen", baselines=scores.behaviors)
    remembered(bench, replace(good(0), scores=scores))
    (own,) = read_store(store_in(configuration_folder))
    assert (own.goal, own.refusals_before, own.refusals_after) == ("strengthen", 70, 96)
    assert started(bench_of())[1] == [WarmStarted("qwen", 0, 3)], "it was for another goal"
    assert started(bench)[1] == [WarmStarted("qwen", 1, 0)]


WORDS = Score("words", 40, 100, 60.0, unit="words")


@pytest.mark.parametrize("baselines", [(WORDS,), (Score("refusals", 50, 100, 50), WORDS)])
def test_plans_against_refusals_are_no_start_for_other_behaviours(
    baselines: tuple[Score, ...], configuration_folder: Path
) -> None:
    remembered(bench_of(), good(0))
    before = store_in(configuration_folder).read_bytes()
    bench = bench_of(baselines=baselines)
    assert started(bench) == ([], [])
    kl = Score("kl", 0.02, 100, 0.0)
    assert remembered(bench, replace(good(1), scores=Scores(baselines, kl))) == []
    assert store_in(configuration_folder).read_bytes() == before


def test_only_the_plans_nearest_to_the_knee_are_kept_and_none_that_failed(configuration_folder: Path) -> None:
    front = [good(number, 20 - number, 0.01 + number / 100) for number in range(6)]
    beaten = good(6, 30, 0.4)
    stopped = replace(good(7, 0, 0.0), state=TrialState.DOMINATED)
    remembered(bench_of(), *front, beaten, stopped, failed(8))
    kept = read_store(store_in(configuration_folder))
    assert {own.refusals_after for own in kept} == {15, 16, 17}


@pytest.mark.parametrize("record", [good(0, 40), good(0, 1, 0.9)])
def test_bad_plans_are_not_kept(record: TrialRecord, configuration_folder: Path) -> None:
    assert remembered(bench_of(), record) == []
    assert not store_in(configuration_folder).exists()


def test_turned_off_it_neither_reads_nor_writes(configuration_folder: Path) -> None:
    bench = bench_of(use_warm_start_params=False)
    assert started(bench) == ([], [])
    assert remembered(bench, good(0)) == []
    assert list(configuration_folder.iterdir()) == []


def test_so_many_as_are_asked_for() -> None:
    assert len(started(bench_of(warm_start_n_trials=1))[0]) == 1
    assert started(bench_of(warm_start_n_trials=0)) == ([], [])
    assert len(started(bench_of(n_trials=2))[0]) == 2


def test_a_damaged_store_is_said_in_one_sentence_and_left_alone(configuration_folder: Path) -> None:
    path = store_in(configuration_folder)
    path.parent.mkdir()
    path.write_bytes(b"[[profile")
    plans, seen = started(bench_of())
    assert len(plans) == 3
    warned, begun = seen
    assert isinstance(warned, Warned)
    assert str(path) in warned.message
    assert "--profile-store" in warned.message
    assert begun == WarmStarted("qwen", 0, 3)
    (after,) = remembered(bench_of(), good(0))
    assert isinstance(after, Warned)
    assert path.read_bytes() == b"[[profile"


def test_the_store_of_the_settings_is_used(tmp_path: Path, configuration_folder: Path) -> None:
    path = tmp_path / "mine.toml"
    bench = bench_of(profile_store=str(path))
    remembered(bench, good(0))
    assert len(read_store(path)) == 1
    assert started(bench)[1] == [WarmStarted("qwen", 1, 2)]
    assert list(configuration_folder.iterdir()) == []


def test_folders_of_this_machine_are_not_written_down(tmp_path: Path, configuration_folder: Path) -> None:
    folder = tmp_path / "secret project" / "my-model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    assert shown_model(str(folder)) == "my-model"
    remembered(bench_of(name=str(folder)), good(0))
    text = store_in(configuration_folder).read_text(encoding="utf-8")
    assert "secret" not in text
    assert 'model = "my-model"' in text


@pytest.mark.parametrize(("name", "words"), [(".", "is a folder"), ("missing/p.toml", "there is no folder")])
def test_a_store_that_cannot_be_is_refused_first(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        check_files(Settings(model="demo", profile_store=name))
    check_files(Settings(model="demo", profile_store=name, use_warm_start_params=False))
