"""Without a hub the default texts of transforms have bundled stand-ins; what a user named fails as usual."""

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub.errors import OfflineModeIsEnabled

from heretic.common.errors import PromptError
from heretic.config import PromptSpecification, Settings
from heretic.observability.events import PromptsLoaded, Warned, subscribed
from heretic.prompts.stand_ins import LONGEST, STAND_INS, load_compared_texts

UNREACHABLE = [
    OfflineModeIsEnabled("offline"),
    ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"),
]


def default_of(role):
    return Settings.model_fields[role].default


def refusing(monkeypatch, error):
    def refuse(*_args, **_options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", refuse)


@pytest.mark.parametrize("role", STAND_INS)
@pytest.mark.parametrize("error", UNREACHABLE, ids=["offline", "no connection"])
def test_a_stand_in_is_used_and_said(monkeypatch, role, error):
    refusing(monkeypatch, error)
    seen = []
    with subscribed(seen.append):
        found = load_compared_texts(role, default_of(role), default_of(role), "Be brief.")
    assert 40 <= len(found) <= 60
    assert found.name == role
    assert {prompt.system for prompt in found.prompts} == {"Be brief."}
    (warning,) = (event.message for event in seen if isinstance(event, Warned))
    assert STAND_INS[role] in warning
    assert default_of(role).dataset in warning
    assert [event.name for event in seen if isinstance(event, PromptsLoaded)] == [STAND_INS[role]]


@pytest.mark.parametrize("changes", [{"dataset": "a/b"}, {"limit": 20}])
def test_what_the_user_named_is_not_replaced(monkeypatch, changes):
    refusing(monkeypatch, UNREACHABLE[0])
    default = default_of("sacred_prompts")
    mine = default.model_copy(update=changes)
    with pytest.raises(PromptError, match=r"^sacred_prompts: .* the hub cannot be reached"):
        load_compared_texts("sacred_prompts", mine, default, None)


def test_another_failure_of_the_default_is_not_hidden(monkeypatch):
    refusing(monkeypatch, DatasetNotFoundError("Dataset 'x' doesn't exist on the Hub."))
    default = default_of("sacred_prompts")
    with pytest.raises(PromptError, match="no such dataset on the hub"):
        load_compared_texts("sacred_prompts", default, default, None)


def test_a_role_without_a_stand_in_fails_as_usual(monkeypatch):
    refusing(monkeypatch, UNREACHABLE[0])
    default = PromptSpecification(dataset="a/b")
    with pytest.raises(PromptError, match="the hub cannot be reached"):
        load_compared_texts("my_prompts", default, default, None)


def test_long_texts_are_cut_between_words(tmp_path):
    path = tmp_path / "texts.txt"
    whole = "x" * LONGEST
    path.write_text("\n".join(["short text", "word " * 400, whole, whole + "x", "y" * (LONGEST - 1) + " z"]))
    specification = PromptSpecification(dataset=str(path))
    found = [prompt.user for prompt in load_compared_texts("helpful_prompts", specification, specification, "").prompts]
    assert found[0] == "short text"
    assert found[1] == ("word " * 200).strip()
    assert found[2] == whole
    assert len(found[3]) == LONGEST
    assert found[4] == "y" * (LONGEST - 1)


def test_stand_ins_share_no_text_and_the_two_sides_differ():
    seen = set()
    for role, name in STAND_INS.items():
        specification = PromptSpecification(dataset=name)
        texts = [prompt.user for prompt in load_compared_texts(role, specification, specification, None).prompts]
        assert len(set(texts)) == len(texts)
        assert all(text.isascii() for text in texts)
        assert not seen & set(texts)
        seen |= set(texts)
