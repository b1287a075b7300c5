"""Which study a run goes on with: its own, by a name of model and behaviour, and found again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.behaviors import one_behavior, pack
from tests.unit.passes.pico_runner import PROMPTS
from tests.unit.search.studies import url_of

from heretic.common.errors import SelectionError
from heretic.config import Settings
from heretic.observability.events import Event, Warned, subscribed
from heretic.prompts.sets import Kept, PromptSets
from heretic.prompts.types import Prompt, PromptSet
from heretic.run.identity import early_aspects
from heretic.run.study_name import ResolveConflict, settle_study, without_asking
from heretic.search.heartbeat import Heartbeat
from heretic.search.storage import EARLIER_NAME, Identity, open_study

GOOD = PromptSet("good", PROMPTS)
SETS = one_behavior(GOOD, PromptSet("bad", (Prompt("Never"),)))
OTHERS = one_behavior(GOOD, PromptSet("bad", (Prompt("Always"),)))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(model="owner/model-1B", storage=url_of(tmp_path / "study.db"))


def made(settings: Settings, name: str, prompts: PromptSets = SETS, **changes: Any) -> None:
    """A study of that name by a run with these prompts."""
    study = open_study(settings.storage, name, Identity({**early_aspects(settings, prompts), **changes}))
    Heartbeat(study, settings.model or "", 1, 10)


def never(*_asked: str) -> str:
    raise AssertionError("nobody is asked")


def study_of(settings: Settings, prompts: PromptSets, resolve_conflict: ResolveConflict) -> str:
    return settle_study(settings, prompts, resolve_conflict)[0].study


@pytest.mark.parametrize(
    ("model", "behavior", "name"),
    [
        ("owner/model-1B", ["refusal"], "model-1B-refusal"),
        ("models/my model", ["hedging", "verbosity"], "my model-hedging-verbosity"),
        ("demo", ["demo"], "demo"),
        ("x", ["packs/mine/pack.toml"], "x-mine"),
        ("x", ["packs/mine"], "x-mine"),
        ("x", ["loud.toml"], "x-loud"),
        (None, ["refusal"], "refusal"),
    ],
)
def test_a_study_is_called_like_its_model_and_behaviour(model: str | None, behavior: list[str], name: str) -> None:
    assert Settings(model=model, behavior=behavior).study == name
    assert Settings(model=model, behavior=behavior, study_name="mine").study == "mine"


def test_a_run_has_the_study_of_its_model_and_behaviour(settings: Settings) -> None:
    assert study_of(settings, SETS, never) == "model-1B-refusal"
    made(settings, "model-1B-refusal")
    assert study_of(settings, SETS, never) == "model-1B-refusal"
    # The second model in one folder is no conflict.
    other = settings.model_copy(update={"model": "other"})
    assert study_of(other, SETS, never) == "other-refusal"


def test_a_conflict_is_found_without_a_model_and_asked_about_once(settings: Settings) -> None:
    made(settings, "model-1B-refusal", OTHERS)
    asked: list[tuple[str, str, str]] = []

    def agrees(study: str, reason: str, own: str) -> str:
        asked.append((study, reason, own))
        return own

    name = study_of(settings, SETS, agrees)
    ((study, reason, own),) = asked
    assert (study, own) == ("model-1B-refusal", name)
    assert "made with another set of training prompts" in reason
    assert name.startswith("model-1B-refusal-")
    made(settings, name)
    # The same command comes back to its own study, without a question.
    assert study_of(settings, SETS, never) == name
    with pytest.raises(SelectionError):
        settle_study(
            settings.model_copy(update={"study_name": "model-1B-refusal", "kl_tokens": 3}), SETS, lambda *_: None
        )


def test_without_a_terminal_the_new_study_is_said(settings: Settings) -> None:
    made(settings, "model-1B-refusal", OTHERS)
    seen: list[Event] = []
    with subscribed(seen.append):
        name = study_of(settings, SETS, without_asking)
    (warned,) = (event.message for event in seen if isinstance(event, Warned))
    assert warned.endswith(f"This run starts the new study {name}.")


def test_a_study_of_an_earlier_version_is_found(settings: Settings) -> None:
    made(settings, EARLIER_NAME)
    assert study_of(settings, SETS, never) == EARLIER_NAME
    assert study_of(settings.model_copy(update={"model": "other"}), SETS, never) == "other-refusal"
    seen: list[Event] = []
    with subscribed(seen.append):
        assert study_of(settings, OTHERS, never) == "model-1B-refusal"
    assert "has its own study, model-1B-refusal" in str(seen)
    made(settings, "model-1B-refusal")
    assert study_of(settings, SETS, never) == "model-1B-refusal"


def test_a_named_study_is_that_one(settings: Settings) -> None:
    made(settings, EARLIER_NAME)
    named = settings.model_copy(update={"study_name": "mine"})
    assert study_of(named, SETS, never) == "mine"


def test_a_study_made_without_answers_that_have_to_stay_goes_on_without(settings: Settings) -> None:
    keeping = replace(SETS, kept=(Kept(pack("doubt"), GOOD),))
    made(settings, "model-1B-refusal")
    seen: list[Event] = []
    with subscribed(seen.append):
        goes_on, looked_at = settle_study(settings, keeping, never)
    (warned,) = (event.message for event in seen if isinstance(event, Warned))
    assert "made without looking at answers that have to stay (doubt)" in warned
    assert (goes_on.study, goes_on.keep_as, looked_at.kept) == ("model-1B-refusal", "off", ())
    # What a person names is looked at, in another study.
    named = settings.model_copy(update={"keep_prompts": "mine.txt"})
    other, looked_at = settle_study(named, keeping, lambda _study, _reason, own: own)
    assert other.study != goes_on.study
    assert looked_at == keeping


def test_a_study_made_with_answers_that_have_to_stay_goes_on_with_them(settings: Settings) -> None:
    keeping = replace(SETS, kept=(Kept(pack("doubt"), GOOD),))
    made(settings, "model-1B-refusal", keeping)
    goes_on, looked_at = settle_study(settings, keeping, never)
    assert (goes_on.study, looked_at) == ("model-1B-refusal", keeping)
