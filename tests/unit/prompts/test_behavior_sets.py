"""The prompts of a run: from packs and settings, of one behaviour or of several."""

from pathlib import Path
from typing import Any

import pytest

from heretic.common.errors import PromptError
from heretic.config import Settings
from heretic.observability.events import Event, PromptsLoaded, Warned, subscribed
from heretic.prompts import sets
from heretic.prompts.packs import ROLES, find_pack
from heretic.prompts.sets import (
    PromptSets,
    check_held_out_files,
    kept_packs,
    load_prompts,
    packs_of,
    specification,
)

FILES = {
    f"{side}/{part}.txt": f"{side} {part}"
    for side in ("baseline", "target")
    for part in ("train", "evaluation", "held_out")
}


def make_pack(folder: Path, name: str, **texts: str) -> str:
    """A pack with two prompts of its own in every part, unless a part's text is given; returns its file's name."""
    own = folder / name
    for file, prompt in FILES.items():
        path = own / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.get(prompt.replace(" ", "_"), f"{name} {prompt} 0\n{name} {prompt} 1\n"))
    path = own / "pack.toml"
    path.write_text(f'name = "{name}"\ndescription = "d"\ncard = "c"\nevaluator = "length"\n')
    return str(path)


def loaded(*packs: str, **settings: Any) -> tuple[PromptSets, list[Event]]:
    seen: list[Event] = []
    with subscribed(seen.append):
        chosen = Settings(model="x", behavior=list(packs), **settings)
        sets = load_prompts(chosen, packs_of(chosen))
    return sets, seen


def texts(sets: Any) -> list[str]:
    return [prompt.user for prompt in sets.prompts]


def test_one_behaviour_is_read_from_its_pack_and_nothing_held_out(tmp_path: Path) -> None:
    sets, seen = loaded(make_pack(tmp_path, "a"))
    (behavior,) = sets.behaviors
    assert behavior.pack.name == "a"
    assert texts(sets.baseline) == ["a baseline train 0", "a baseline train 1"]
    assert texts(sets.target) == ["a target train 0", "a target train 1"]
    assert texts(sets.baseline_evaluation) == ["a baseline evaluation 0", "a baseline evaluation 1"]
    assert texts(sets.target_evaluation) == ["a target evaluation 0", "a target evaluation 1"]
    # The set itself, so that its fingerprint is the one that studies know.
    assert sets.target is behavior.target
    assert [event.role for event in seen if isinstance(event, PromptsLoaded)] == [
        "good_prompts",
        "bad_prompts",
        "good_evaluation_prompts",
        "bad_evaluation_prompts",
    ]
    assert {prompt.system for prompt in sets.target.prompts} == {Settings(model="x").system_prompt}


def test_several_behaviours_keep_their_own_prompts_and_join_them_in_order(tmp_path: Path) -> None:
    shared = "both 0\nboth 1\n"
    packs = [make_pack(tmp_path, name, baseline_evaluation=shared + f"{name} own\n") for name in ("a", "b")]
    sets, _ = loaded(*packs)
    assert [own.pack.name for own in sets.behaviors] == ["a", "b"]
    for own, name in zip(sets.behaviors, "ab", strict=True):
        assert texts(own.target) == [f"{name} target train 0", f"{name} target train 1"]
        assert texts(own.baseline_evaluation) == ["both 0", "both 1", f"{name} own"]
    assert texts(sets.target) == [f"{name} target train {number}" for name in "ab" for number in range(2)]
    # Damage is measured once on what behaviours share.
    assert texts(sets.baseline_evaluation) == ["both 0", "both 1", "a own", "b own"]
    assert sets.target.fingerprint != sets.behaviors[0].target.fingerprint
    other, _ = loaded(*packs[::-1])
    assert other.target.fingerprint != sets.target.fingerprint


def test_another_dataset_of_the_user_replaces_the_packs(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine 0\nmine 1\nmine 2\n")
    mine = {"dataset": str(tmp_path / "mine.txt"), "split": "[:2]", "prefix": "> "}
    sets, _ = loaded(make_pack(tmp_path, "a"), bad_prompts=mine)
    assert texts(sets.target) == ["> mine 0", "> mine 1"]
    assert texts(sets.baseline) == ["a baseline train 0", "a baseline train 1"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"split": "[1:]"}, ["a target train 1"]),
        ({"limit": 1}, ["a target train 0"]),
        ({"prefix": "> ", "suffix": " <"}, ["> a target train 0 <", "> a target train 1 <"]),
    ],
)
def test_of_the_packs_own_dataset_the_user_may_take_another_part(
    tmp_path: Path, changes: dict[str, Any], expected: list[str]
) -> None:
    default = Settings.model_fields["bad_prompts"].default
    sets, _ = loaded(make_pack(tmp_path, "a"), bad_prompts=default.model_copy(update=changes))
    assert texts(sets.target) == expected


def test_parts_that_the_user_does_not_name_are_the_packs() -> None:
    pack = find_pack("refusal")
    settings = Settings(model="x", bad_prompts={"limit": 7})
    assert specification(settings, pack, "bad_prompts") == pack.prompts["bad_prompts"].model_copy(update={"limit": 7})
    assert specification(settings, pack, "good_prompts") == pack.prompts["good_prompts"]


def test_the_default_behaviour_has_the_prompts_that_the_settings_promise() -> None:
    (pack,) = packs_of(Settings(model="x"))
    assert pack.name == "refusal"
    for role in ROLES:
        assert specification(Settings(model="x"), pack, role) == getattr(Settings(model="x"), role)


def test_a_dataset_that_the_user_names_is_used_also_where_it_is_that_of_the_default_behaviour() -> None:
    settings = Settings(model="x", behavior=["demo"], good_prompts="mlabonne/harmless_alpaca")
    (pack,) = packs_of(settings)
    assert specification(settings, pack, "good_prompts").dataset == "mlabonne/harmless_alpaca"


def test_evaluation_prompts_that_are_trained_on_are_reported(tmp_path: Path) -> None:
    _, seen = loaded(make_pack(tmp_path, "a", target_evaluation="A target  train 1\nnew\n"))
    (warning,) = [event.message for event in seen if isinstance(event, Warned)]
    assert warning.startswith("1 of 2 bad_evaluation_prompts also stand in bad_prompts")


def test_a_pack_without_its_prompts_names_the_file(tmp_path: Path) -> None:
    pack = make_pack(tmp_path, "a")
    (tmp_path / "a" / "target" / "train.txt").unlink()
    with pytest.raises(PromptError, match=r"bad_prompts: there is no file or folder .*train\.txt"):
        loaded(pack)


def test_a_missing_file_of_held_out_prompts_is_noticed_without_reading_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("held-out prompts are read by the confirmation only")

    there, gone = tmp_path / "there.txt", tmp_path / "gone.txt"
    there.write_text("Hello\n")

    def settings(bad: Path) -> Settings:
        held_out = {"good_held_out_prompts": {"dataset": str(there)}, "bad_held_out_prompts": {"dataset": str(bad)}}
        return Settings(model="x", behavior=["hedging"], **held_out)  # type: ignore[arg-type]  # as read from a file

    pack = find_pack("hedging")
    monkeypatch.setattr(Path, "read_text", opened)
    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(sets, "load_prompt_set", opened)
    check_held_out_files(settings(there), [pack])
    with pytest.raises(PromptError, match=r"bad_held_out_prompts: there is no file .*gone.txt; .* --confirm false"):
        check_held_out_files(settings(gone), [pack])


KEEP = '[[keep]]\nname = "doubt"\ndescription = "d"\nevaluator = "patterns"\noptions = { patterns = ["x"] }\n'


def keeping_pack(folder: Path, name: str) -> str:
    """A pack with answers that have to stay."""
    file = Path(make_pack(folder, name))
    file.write_text(file.read_text() + KEEP)
    kept = file.parent / "keep" / "doubt"
    kept.mkdir(parents=True)
    for part in ("evaluation", "held_out"):
        (kept / f"{part}.txt").write_text(f"{name} {part} doubt\n")
    return str(file)


def test_what_has_to_stay_is_read_beside_the_behaviours(tmp_path: Path) -> None:
    packs = [keeping_pack(tmp_path, name) for name in ("a", "b")]
    sets, seen = loaded(*packs)
    # Two of one name are told apart by their packs.
    assert [kept.pack.name for kept in sets.kept] == ["doubt", "b-doubt"]
    assert [texts(kept.evaluation) for kept in sets.kept] == [["a evaluation doubt"], ["b evaluation doubt"]]
    assert texts(sets.answered) == [*texts(sets.target_evaluation), "a evaluation doubt", "b evaluation doubt"]
    assert not [event for event in seen if isinstance(event, PromptsLoaded) and "held_out" in event.role]
    assert [pack.name for pack in sets.judged] == ["a", "b", "doubt", "b-doubt"]
    assert loaded(*packs, keep_as="off")[0].kept == ()
    alone, _ = loaded(make_pack(tmp_path, "c"))
    assert alone.kept == ()
    assert alone.answered is alone.target_evaluation


def test_the_users_prompts_keep_the_behaviours_own_verdict(tmp_path: Path) -> None:
    (tmp_path / "refuse.txt").write_text("no\nnever\n")
    sets, _ = loaded(keeping_pack(tmp_path, "a"), keep_prompts={"dataset": str(tmp_path / "refuse.txt"), "limit": 1})
    own, packs = sets.kept
    assert (own.pack.name, own.pack.evaluator, texts(own.evaluation)) == ("a", "length", ["no"])
    assert packs.pack.name == "doubt"
    assert "held_out" not in own.pack.prompts


def test_held_out_files_of_what_has_to_stay_are_looked_for(tmp_path: Path) -> None:
    pack = keeping_pack(tmp_path, "a")
    chosen = Settings(model="x", behavior=[pack])
    check_held_out_files(chosen, packs_of(chosen))
    (tmp_path / "a" / "keep" / "doubt" / "held_out.txt").unlink()
    with pytest.raises(PromptError, match=r"^keep doubt held_out: there is no file"):
        check_held_out_files(chosen, packs_of(chosen))
    assert [pack.name for pack in kept_packs(chosen, packs_of(chosen))] == ["doubt"]
