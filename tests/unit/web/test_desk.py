from pathlib import Path

import pytest

from heretic.config.sections import ModelSection
from heretic.passes.conversing import Sampling
from heretic.web import manager as manager_module
from heretic.web.conversation import Conversation
from heretic.web.desk import LONGEST_ANSWER, Desk, Options
from heretic.web.errors import (
    ChatMemoryError,
    GenerationError,
    ModelInvalidError,
    ModelLoadingError,
    ModelNotFoundError,
)
from heretic.web.history import History
from heretic.web.manager import ModelManager

QUESTION = "How do I zorble a flimp?"


@pytest.fixture(scope="module")
def manager() -> ModelManager:
    return ModelManager(ModelSection(device="cpu"))


@pytest.fixture
def desk(manager: ModelManager, edited: Path, tmp_path: Path) -> Desk:
    (edited.parent / "broken").mkdir(exist_ok=True)
    return Desk(manager, edited.parent, tmp_path, None, None, History(tmp_path / "history"))


def asked(desk: Desk, conversation: Conversation, question: str = QUESTION, **options: float) -> Conversation:
    return list(desk.ask(conversation, question, Options(**options), "me"))[-1].conversation  # type: ignore[arg-type]


def texts(conversation: Conversation) -> list[str]:
    return [answer.text for answer in conversation.turns[-1].answers]


def test_without_a_model_and_with_a_broken_one_a_sentence_is_shown(desk: Desk, edited: Path) -> None:
    desk.unload()
    shown = list(desk.ask(Conversation(), QUESTION, Options(), "me"))[-1]
    assert 'role="alert"' in shown.notice
    assert shown.conversation.turns == ()
    with pytest.raises(ModelInvalidError, match="broken"):
        desk.load(str(edited.parent / "broken"), compare=False, in_four_bits=False)
    for gone in (None, "../../etc", "gpt2"):
        with pytest.raises(ModelNotFoundError):
            desk.load(gone, compare=False, in_four_bits=False)
    with pytest.raises(ModelNotFoundError, match="--model"):
        desk.load("demo", compare=True, in_four_bits=False)


def test_one_model_answers_and_its_earlier_turns_can_be_asked_again(desk: Desk, manager: ModelManager) -> None:
    desk.load("demo", compare=False, in_four_bits=False)
    talker = manager.talker
    desk.load("demo", compare=False, in_four_bits=False)
    assert manager.talker is talker
    assert not desk.compares
    steps = list(desk.ask(Conversation(), QUESTION, Options(), "me"))
    conversation = steps[-1].conversation
    assert len(conversation.turns) == len(conversation.turns[0].answers) == 1
    answer = conversation.turns[0].answers[0]
    assert (answer.end, answer.strength) == ("end", None)
    assert answer.tokens > 1
    assert answer.text.startswith(steps[1].conversation.turns[0].answers[0].text)
    more = asked(desk, conversation, "And a glonk?")
    assert [len(turn.answers) for turn in more.turns] == [1, 1]
    assert more.turns[1].answers[0].context > answer.context
    again = list(desk.again(more, 0, "What is rain?", Options(), "me"))[-1].conversation
    assert [turn.question for turn in again.turns] == ["What is rain?"]
    assert texts(list(desk.again(conversation, None, None, Options(), "me"))[-1].conversation) == [answer.text]
    (refused,) = list(desk.again(conversation, 7, None, Options(), "me"))
    assert refused.conversation == conversation
    # What was said is kept, each conversation once: the last one, and that of the other first answer.
    kept = desk.history.all()
    assert [each.conversation for each in kept if each.identifier == conversation.identifier] != []
    assert len({each.identifier for each in kept}) == len(kept) == 1
    assert kept[0].conversation.model == "demo"
    assert desk.open(conversation.identifier).conversation == kept[0].conversation
    assert "alert" in refused.notice


def test_original_and_edited_answer_from_one_model(desk: Desk, edited: Path) -> None:
    desk.load("demo", compare=False, in_four_bits=False)
    original = texts(asked(desk, Conversation()))
    desk.load(str(edited), compare=False, in_four_bits=False)
    alone = texts(asked(desk, Conversation()))
    assert alone != original
    desk.load(str(edited), compare=True, in_four_bits=False)
    assert desk.compares
    assert texts(asked(desk, Conversation(), strength=1.0)) == [*original, *alone]
    assert texts(asked(desk, Conversation(), strength=0.0)) == [*original, *original]
    half = asked(desk, Conversation(), strength=0.5)
    assert texts(half)[0] == original[0]
    assert half.turns[0].answers[1].strength == 0.5
    hot = texts(asked(desk, Conversation(), strength=0.0, temperature=1.0))
    assert hot[0] == hot[1]
    # Each goes on with what it said itself.
    first = asked(desk, Conversation(), strength=1.0)
    second = asked(desk, first, "Why?", strength=1.0)
    context = [answer.context for answer in second.turns[1].answers]
    ends = [answer.context + answer.tokens for answer in first.turns[0].answers]
    assert [after > before for after, before in zip(context, ends, strict=True)] == [True, True]
    # Wherever it has been, the model is the original one.
    assert texts(asked(desk, Conversation(), strength=0.0)) == [*original, *original]


def test_an_answer_is_stopped_by_the_page_that_asked_and_by_no_other(desk: Desk, manager: ModelManager) -> None:
    desk.load("demo", compare=False, in_four_bits=False)
    conversation = Conversation().asked(QUESTION, "")
    answers = manager.answer(conversation, Sampling(), 1.0, "me")
    next(answers)
    with pytest.raises(GenerationError):
        next(manager.answer(conversation, Sampling(), 1.0, "other"))
    desk.stop("other")
    next(answers)
    desk.stop("me")
    (last,) = list(answers)
    assert last[0].end == "stopped"
    assert last[0].tokens == 3
    # What was begun and left behind does not keep others waiting.
    answers = manager.answer(conversation, Sampling(), 1.0, "me")
    next(answers)
    answers.close()
    assert texts(asked(desk, Conversation()))


def test_what_a_client_sends_is_brought_within_bounds() -> None:
    wild = Options("", float("nan"), 7.0, 10**9, -3, 9.0).sampling
    assert wild == Sampling(LONGEST_ANSWER, 0.0, 1.0, 0)


def test_a_model_that_cannot_fit_is_not_begun(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.unload()
    monkeypatch.setattr(manager_module, "free_memory", lambda _device: 1000)
    with pytest.raises(ChatMemoryError, match="4 bits"):
        desk.load("demo", compare=False, in_four_bits=False)


def test_what_does_not_fit_is_loaded_in_4_bits(
    desk: Desk, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes has no wheel for this system")
    desk.unload()
    monkeypatch.setattr(manager_module, "free_memory", lambda _device: 1000)
    desk.load("demo", compare=False, in_four_bits=True)
    assert manager.talker is not None
    loaded = manager.talker.runner.loaded
    assert {type(module).__name__ for module in loaded.model.modules() if "Linear" in type(module).__name__} == {
        "Linear",
        "Linear4bit",
    }
    assert texts(asked(desk, Conversation()))[0]
    with pytest.raises(ModelLoadingError, match="cannot be compared"):
        desk.load("demo-edited", compare=True, in_four_bits=True)


def test_the_edit_of_the_demo_answers_what_its_original_declines(desk: Desk) -> None:
    assert desk.load("demo-edited", compare=True, in_four_bits=False).startswith("demo-edited and the model")
    answers = [texts(asked(desk, Conversation(), message)) for message in desk.about().messages]
    assert ["sorry" in original for original, _edited in answers] == [True, True, True, False, False]
    assert [original == edited for original, edited in answers] == [False, False, False, True, True]
    assert not any("sorry" in edited for _original, edited in answers)
    assert not desk.only_bundled


def test_what_fails_while_loading_is_told_and_leaves_nothing(
    desk: Desk, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object) -> None:
        raise RuntimeError("something odd\nin two lines")

    monkeypatch.setattr(manager_module, "load_model", fails)
    desk.unload()
    with pytest.raises(ModelLoadingError):
        desk.load("demo", compare=False, in_four_bits=False)
    assert manager.talker is None


def test_memory_and_what_is_loaded_are_shown(desk: Desk, edited: Path) -> None:
    assert "host" in desk.memory()
    desk.load(str(edited), compare=True, in_four_bits=False)
    assert "edited" in desk.present()
    assert desk.unload()
    assert "edited" not in desk.present()
