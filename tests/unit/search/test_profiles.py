"""Families, the shipped profiles, and the user's store: what is kept, and that a file of theirs is never damaged."""

import os
import stat
import threading
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from tests.unit.search.studies import PLAN

from heretic.config.sections import EditSection
from heretic.edits.writer import ATTENTION, MLP
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.search.profile_store import PLANS_PER_MODEL, add_to_store, default_store, read_store
from heretic.search.profiles import (
    OTHERS,
    Profile,
    ProfileError,
    family_of,
    fitting,
    parse_profiles,
    plan_table,
    shipped_profiles,
    toml_table,
)
from heretic.search.space import PEAK_WEIGHTS, SearchSpace

FAMILIES = ("llama", "qwen", "mistral", "gemma", "phi", OTHERS)


def profile(refusals: int = 3, kl: float = 0.02, model: str = "owner/model", plan: EditPlan = PLAN) -> Profile:
    return Profile(
        family="qwen",
        normalization=Normalization.ROW,
        model=model,
        layers=24,
        prompts=100,
        refusals_before=80,
        refusals_after=refusals,
        kl=kl,
        kl_mode="sequence",
        date="2026-11-21",
        heretic="0.1",
        plan=plan_table(plan),
    )


def other_plan(position: float) -> EditPlan:
    return replace(PLAN, direction_position=position)


# Families -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "family"),
    [
        *((name, "qwen") for name in ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "qwen2_5_vl")),
        *((name, "llama") for name in ("llama", "llama4", "llama4_text", "mllama")),
        *((name, "mistral") for name in ("mistral", "mistral3", "mixtral", "ministral", "pixtral")),
        *((name, "gemma") for name in ("gemma", "gemma2", "gemma3", "gemma3_text", "recurrent_gemma", "t5gemma")),
        *((name, "phi") for name in ("phi", "phi3", "phimoe", "phi4_multimodal")),
        *((name, OTHERS) for name in ("gpt2", "llava", "falcon_h1", "olmo2", "deepseek_v3", "granite", "", "dolphin")),
    ],
)
def test_the_family_follows_from_the_model_type(model_type: str, family: str) -> None:
    assert family_of([model_type], []) == family


def test_the_classes_decide_where_the_model_type_says_nothing() -> None:
    assert family_of(["custom"], ["LlamaForCausalLM"]) == "llama"
    assert family_of(["custom"], ["RecurrentGemmaForCausalLM"]) == "gemma"
    assert family_of(["custom"], ["MyForCausalLM"]) == OTHERS
    # The language model inside a wrapper of another name.
    assert family_of(["internvl", "qwen2"], []) == "qwen"


# Shipped profiles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_shipped_plans_lie_within_the_search_space(family: str) -> None:
    profiles = shipped_profiles(family)
    assert len({own.plan.model_dump_json() for own in profiles}) == len(profiles) >= 3
    for own in profiles:
        assert own.family == family
        space = SearchSpace((ATTENTION, MLP), Normalization.ROW, peak_weight=PEAK_WEIGHTS[own.goal])
        plan = own.edit_plan(Normalization.ROW)
        assert {name for name, _ in plan.schedules} == {ATTENTION, MLP}
        assert replace(plan, normalization=Normalization.ROW) == plan
        parameters = space.parameters(plan)
        assert parameters.get("direction_position") == plan.direction_position
        for name, schedule in plan.schedules:
            for part in ("peak_weight", "peak_position", "floor", "width"):
                assert parameters[f"{name}.{part}"] == getattr(schedule, part), "it was clipped"


def test_shipped_profiles_say_where_their_numbers_come_from() -> None:
    folder = files("heretic.config") / "profiles"
    for family in FAMILIES:
        text = (folder / f"{family}.toml").read_text(encoding="utf-8")
        measured = all(own.kl is not None for own in parse_profiles(text))
        assert measured or "NOT MEASURED" in text


def test_an_unknown_family_gets_the_profiles_of_the_others() -> None:
    assert shipped_profiles("demo") == shipped_profiles(OTHERS) == shipped_profiles("../demo")


# Tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", list(Scope))
def test_a_profile_comes_back_from_its_table(scope: Scope) -> None:
    position = 0.625 if scope is Scope.GLOBAL else None
    own = profile(plan=replace(PLAN, scope=scope, direction_position=position), model='a "quoted" \\ name \u00e9')
    (read,) = parse_profiles(toml_table(own))
    assert read == own
    assert read.edit_plan(Normalization.ROW) == replace(PLAN, scope=scope, direction_position=position)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profile = 3", "no.*list of tables|not a list"),
        ("[[profile]\n", "not valid TOML"),
        ('[[profile]]\nfamily = "qwen"', "profile 1, plan"),
        (toml_table(profile()).replace('"global"', '"sideways"'), "profile 1, plan.scope"),
        (toml_table(profile()).replace("floor = 0.25", "floor = nan"), r"plan.schedules.attention.floor"),
        (toml_table(profile()) + toml_table(profile()).replace("kl = 0.02", 'kl = "much"'), "profile 2, kl"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        parse_profiles(text)


def test_notes_and_unknown_keys_are_no_mistake() -> None:
    text = "# mine\n" + toml_table(profile()).replace("kl = 0.02", "kl = 0.02\nnote = 'good'") + "[mine]\nx = 1\n"
    assert parse_profiles(text) == (profile(),)


def test_the_best_of_the_family_the_goal_and_the_norms_come_first() -> None:
    good, better, best = profile(9), profile(3, plan=other_plan(0.4)), profile(1, plan=other_plan(0.5))
    unfit = [
        profile(0).model_copy(update=change)
        for change in ({"family": "phi"}, {"goal": "strengthen"}, {"normalization": Normalization.NONE})
    ]
    twice = profile(20, plan=other_plan(0.5))
    unknown = profile(plan=other_plan(0.7)).model_copy(update={"kl": None})
    found = fitting([good, *unfit, twice, unknown, best, better], "qwen", "remove", Normalization.ROW)
    assert found == [best, better, good, unknown]


def test_distance_counts_what_the_goal_makes_few() -> None:
    """Strengthened from 80 of 100 refusals to 95: a quarter of the answers without refusal is left."""
    own = profile(95, kl=0.0).model_copy(update={"goal": "strengthen"})
    assert own.distance == pytest.approx(5 / 20)
    assert profile(20, kl=0.0).distance == pytest.approx(20 / 80)


# The store ------------------------------------------------------------------------------------------------------------


def test_there_is_no_store_at_first(tmp_path: Path) -> None:
    assert read_store(tmp_path / "profiles.toml") == ()


def test_what_was_added_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "profiles.toml"
    assert add_to_store(path, [profile()]) == 1
    assert add_to_store(path, [profile(plan=other_plan(0.4)), profile(model="another")]) == 2
    assert read_store(path) == (profile(), profile(plan=other_plan(0.4)), profile(model="another"))
    # Only the file and its lock.
    assert {entry.name for entry in path.parent.iterdir()} <= {"profiles.toml", "profiles.toml.lock"}


def test_the_same_plan_is_not_added_twice(tmp_path: Path) -> None:
    path = tmp_path / "profiles.toml"
    add_to_store(path, [profile()])
    before = path.read_bytes()
    assert add_to_store(path, [profile(refusals=2)]) == 0
    assert path.read_bytes() == before


def test_only_the_best_of_a_model_are_worth_keeping(tmp_path: Path) -> None:
    path = tmp_path / "profiles.toml"
    add_to_store(
        path, [profile(number, plan=other_plan(0.4 + number / 100)) for number in range(1, PLANS_PER_MODEL + 1)]
    )
    assert add_to_store(path, [profile(50, plan=other_plan(0.8))]) == 0
    assert add_to_store(path, [profile(0, plan=other_plan(0.7)), profile(60, plan=other_plan(0.6))]) == 1
    assert add_to_store(path, [profile(50, plan=other_plan(0.8), model="another")]) == 1


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbf# mine\r\n" + toml_table(profile()).replace("\n", "\r\n").encode(), b"# only a note", b"x = 1\n"],
)
def test_what_stands_in_the_file_stays_byte_for_byte(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profiles.toml"
    path.write_bytes(content)
    add_to_store(path, [profile(1, plan=other_plan(0.4))])
    assert path.read_bytes().startswith(content.rstrip())
    assert read_store(path)[-1] == profile(1, plan=other_plan(0.4))


@pytest.mark.parametrize(
    "content", [b"[[profile", b"profile = []\n", b"\xff\xfe", b'[[profile]]\nfamily = "qwen"\n', b"profile = 1\n"]
)
def test_a_damaged_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profiles.toml"
    path.write_bytes(content)
    with pytest.raises(ProfileError) as caught:
        add_to_store(path, [profile()])
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content
    assert {entry.name for entry in tmp_path.iterdir()} <= {"profiles.toml", "profiles.toml.lock"}


def test_a_crash_while_it_is_replaced_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profiles.toml"
    add_to_store(path, [profile()])
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ProfileError, match="No space left"):
        add_to_store(path, [profile(1, plan=other_plan(0.4))])
    assert path.read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} <= {"profiles.toml", "profiles.toml.lock"}


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        read_store(tmp_path)
    with pytest.raises(ProfileError):
        add_to_store(tmp_path, [profile()])


def test_a_link_stays_a_link_and_permissions_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text("# mine\n", encoding="utf-8")
    real.chmod(0o640)
    link.symlink_to(real)
    add_to_store(link, [profile()])
    assert link.is_symlink()
    assert read_store(real) == (profile(),)
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_two_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "profiles.toml"
    threads = [
        threading.Thread(target=add_to_store, args=(path, [profile(model=f"model {number}")])) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {own.model for own in read_store(path)} == {f"model {number}" for number in range(8)}


def test_the_store_follows_the_platforms_convention(tmp_path: Path) -> None:
    xdg = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert default_store(xdg, "linux") == tmp_path / "heretic" / "profiles.toml"
    home = Path.home() / ".config" / "heretic" / "profiles.toml"
    assert default_store({}, "linux") == default_store({"XDG_CONFIG_HOME": "relative"}, "linux") == home
    assert default_store({"APPDATA": str(tmp_path)}, "win32") == tmp_path / "heretic" / "profiles.toml"
    assert default_store({"APPDATA": str(tmp_path)}, "linux") == home


def test_every_goal_has_its_ranges() -> None:
    goals = EditSection.model_fields["goal"].annotation.__args__  # type: ignore[union-attr]
    assert set(PEAK_WEIGHTS) == set(goals)
    for weights in PEAK_WEIGHTS["strengthen"].values():
        assert weights.low < 0 >= weights.high
    assert Schedule(-1.0, 0.5, 0.0, 0.3).strength(5, 11) == -1.0
