import pytest

from heretic.web.conversation import LONGEST_QUESTION, MOST_TURNS, Answer, Conversation, Turn, split_thinking
from heretic.web.errors import TokenizingError


def conversation() -> Conversation:
    turns = (
        Turn("one", (Answer("<think>hm</think>first", 0.0), Answer("second", 1.0))),
        Turn("two", (Answer("alone"),)),
        Turn("three"),
    )
    return Conversation("demo", "Be kind.", turns)


def test_each_column_is_given_its_own_answers_as_texts_without_thinking() -> None:
    texts = [[message["content"] for message in conversation().messages(column)] for column in (0, 1)]
    assert texts[0] == ["Be kind.", "one", "first", "two", "alone", "three"]
    assert texts[1] == ["Be kind.", "one", "second", "two", "alone", "three"]
    assert [message["role"] for message in conversation().messages(0)][:3] == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("plain", "", "plain"),
        ("<think>a</think>b", "a", "b"),
        ("a\n</think>\nb", "a", "b"),
        ("<think>not over", "not over", ""),
        ("x <think>a</think> y <think>b</think>", "a\n\nb", "x  y"),
    ],
)
def test_thinking_is_told_from_what_is_said(text: str, thought: str, said: str) -> None:
    assert split_thinking(text) == (thought, said)


def test_a_conversation_survives_json_and_says_what_is_damaged() -> None:
    assert Conversation.from_json(conversation().to_json()) == conversation()
    for damaged in (
        None,
        [],
        {"turns": 3},
        {"turns": [{"question": 1}]},
        {"turns": [{"question": "", "answers": [3]}]},
    ):
        with pytest.raises(ValueError, match=r"."):
            Conversation.from_json(damaged)


def test_an_earlier_turn_is_asked_again_without_what_followed() -> None:
    asked = conversation().before(1).asked("new two ", "")
    assert [turn.question for turn in asked.turns] == ["one", "new two"]
    assert asked.turns[-1].answers == ()
    answered = asked.answered((Answer("yes"),))
    assert answered.turns[-1].answers == (Answer("yes"),)
    assert asked.answered(()).turns == asked.turns[:1]


@pytest.mark.parametrize("question", ["", "  \n", "x" * (LONGEST_QUESTION + 1)])
def test_messages_have_bounds(question: str) -> None:
    with pytest.raises(TokenizingError):
        Conversation().asked(question, "")


def test_conversations_and_system_prompts_have_bounds() -> None:
    with pytest.raises(TokenizingError):
        Conversation(turns=(Turn("x"),) * MOST_TURNS).asked("one more", "")
    with pytest.raises(TokenizingError):
        Conversation().asked("x", "y" * 9000)
