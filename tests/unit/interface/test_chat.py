import copy
from collections.abc import Iterator

import pytest
from tests.unit.interface.terminal import CONTROL_C, CONTROL_D, ENTER, Terminal

from heretic.common.errors import ModelError, OutOfMemoryError, SelectionError
from heretic.interface.chat import HELP, Conversation, Message, chat_loop, run_command
from heretic.models.chat_template import Limits, TemplateRefusal


class ScriptedModel:
    """Answers with prepared pieces; an exception among them is raised. Remembers what it was given."""

    def __init__(self, *answers: list[str | BaseException]) -> None:
        self.answers = list(answers)
        self.asked: list[list[Message]] = []
        self.strengths: list[float] = []
        self.closed = 0

    def __call__(self, messages: list[Message], strength: float) -> Iterator[str]:
        self.asked.append(copy.deepcopy(messages))
        self.strengths.append(strength)
        try:
            for piece in self.answers.pop(0):
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self.closed += 1


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def test_a_conversation_has_many_turns_and_the_system_prompt(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(["Hello ", "you."], ["Fine."])
    terminal.type("Hi", ENTER, ENTER, " How are you? ", ENTER, "/exit", ENTER)

    chat_loop(model, "Be brief.", "Trial 12")

    system = {"role": "system", "content": "Be brief."}
    assert model.asked[0] == [system, user("Hi")]
    assert model.asked[1] == [system, user("Hi"), assistant("Hello you."), user("How are you?")]
    output = capsys.readouterr().out
    assert output.startswith("Trial 12\n")
    assert "Hello you.\n" in output
    assert output.isascii()


@pytest.mark.parametrize("key", [CONTROL_C, CONTROL_D])
def test_control_c_and_control_d_at_the_prompt_leave(terminal: Terminal, key: str) -> None:
    terminal.type(key)
    model = ScriptedModel()

    chat_loop(model, None, "Trial 12")

    assert model.asked == []


def test_control_c_stops_an_answer_and_keeps_what_was_said(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(["Once upon ", KeyboardInterrupt()], ["The end."])
    terminal.type("Tell", ENTER, "Go on", ENTER, CONTROL_D)

    chat_loop(model, None, "Trial 12")

    assert model.asked[1] == [user("Tell"), assistant("Once upon "), user("Go on")]
    assert "Once upon \n[stopped]\n" in capsys.readouterr().out
    assert model.closed == 2


def test_control_c_while_a_piece_is_printed_ends_the_generation(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(text: str) -> None:
        if text == "piece":
            raise KeyboardInterrupt

    monkeypatch.setattr("heretic.interface.chat.write", interrupted)
    model = ScriptedModel(["piece", "never read"])
    pieces: list[Iterator[str]] = []

    def stream(messages: list[Message], strength: float) -> Iterator[str]:
        # Kept here, so that only closing ends it, not the garbage collector.
        pieces.append(model(messages, strength))
        return pieces[0]

    terminal.type("Tell", ENTER, CONTROL_D)
    chat_loop(stream, None, "Trial 12")

    assert model.closed == 1


def test_a_failed_answer_is_explained_and_the_question_taken_back(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel([OutOfMemoryError("The device ran out of memory.")], ["Yes."])
    terminal.type("Long", ENTER, "Short", ENTER, CONTROL_D)

    chat_loop(model, None, "Trial 12")

    assert model.asked[1] == [user("Short")]
    assert "Warning: The device ran out of memory.\n" in capsys.readouterr().out


def test_a_template_that_takes_one_message_begins_each_conversation_anew_and_says_why(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(["1"], ["2"], ["3"])
    terminal.type("a", ENTER, "b", ENTER, "/system Be kind.", ENTER, "c", ENTER, CONTROL_D)

    chat_loop(model, None, "Trial 12", Limits("one turn only", "no \x1b[2Jroles"))

    kind = {"role": "system", "content": "Be kind."}
    assert model.asked == [[user("a")], [user("b")], [kind, user("c")]]
    output = capsys.readouterr().out
    assert output.count("one turn only") == 1
    assert "\x1b" not in output
    # Said once there is a system prompt.
    assert output.index("System prompt set") < output.index("roles")


def test_a_conversation_that_the_template_refuses_goes_on_with_its_last_message(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(["1"], ["2"], ["3"])

    def stream(messages: list[Message], strength: float) -> Iterator[str]:
        if len(messages) > 3:
            raise TemplateRefusal("Two questions are enough.")
        return model(messages, strength)

    terminal.type("a", ENTER, "b", ENTER, "c", ENTER, CONTROL_D)
    chat_loop(stream, None, "Trial 12")

    assert model.asked == [[user("a")], [user("a"), assistant("1"), user("b")], [user("c")]]
    assert "Two questions are enough." in capsys.readouterr().out


def test_a_message_that_the_template_refuses_ends_nothing(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(["1"])

    def stream(messages: list[Message], strength: float) -> Iterator[str]:
        if messages[-1] == user("a"):
            raise ModelError("It refuses that.")
        return model(messages, strength)

    terminal.type("a", ENTER, "b", ENTER, CONTROL_D)
    chat_loop(stream, None, "Trial 12")

    assert model.asked == [[user("b")]]
    assert "Warning: It refuses that." in capsys.readouterr().out


def test_errors_that_are_no_fault_of_the_answer_pass(terminal: Terminal) -> None:
    terminal.type("Hi", ENTER)

    with pytest.raises(ZeroDivisionError):
        chat_loop(ScriptedModel([ZeroDivisionError()]), None, "Trial 12")


def test_an_empty_answer_leaves_no_turn(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel([], ["Yes."])
    terminal.type("First", ENTER, "Second", ENTER, CONTROL_D)

    chat_loop(model, None, "Trial 12")

    assert model.asked[1] == [user("Second")]
    assert "[empty answer]" in capsys.readouterr().out


def test_control_characters_of_a_model_do_not_reach_the_terminal(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(["\x1b[2Jgone"], ["ok"])
    terminal.type("Hi", ENTER, "Again", ENTER, CONTROL_D)

    chat_loop(model, None, "Trial 12")

    assert "\x1b" not in capsys.readouterr().out
    assert model.asked[1][1] == assistant("\x1b[2Jgone")


def test_clear_and_system_begin_a_new_conversation(terminal: Terminal) -> None:
    model = ScriptedModel(["1"], ["2"], ["3"], ["4"])
    terminal.type("a", ENTER, "/clear", ENTER, "b", ENTER, "/system Be kind.", ENTER, "c", ENTER)
    terminal.type("/system", ENTER, "d", ENTER, "/exit", ENTER)

    chat_loop(model, "Be brief.", "Trial 12")

    def system(text: str) -> Message:
        return {"role": "system", "content": text}

    assert model.asked == [
        [system("Be brief."), user("a")],
        [system("Be brief."), user("b")],
        [system("Be kind."), user("c")],
        [user("d")],
    ]


def test_help_names_every_command_and_unknown_ones_are_no_question(terminal: Terminal) -> None:
    conversation = Conversation(None)

    assert run_command("/help", conversation) == HELP
    for name in ("/exit", "/clear", "/system", "/help"):
        assert f"\n{name}" in f"\n{HELP}"
    assert "/foo" in str(run_command("/foo bar", conversation))
    assert run_command("/exit", conversation) is None
    assert max(map(len, HELP.splitlines())) < 80

    model = ScriptedModel()
    terminal.type("/foo", ENTER, "/help", ENTER, "/exit", ENTER)
    chat_loop(model, None, "Trial 12")
    assert model.asked == []


def test_messages_cannot_change_the_conversation() -> None:
    conversation = Conversation(None, [user("Hi")])

    conversation.messages()[0]["content"] = "changed"

    assert conversation.turns == [user("Hi")]


def test_without_a_terminal_there_is_no_chat(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heretic.interface.asking.has_terminal", lambda: False)

    with pytest.raises(SelectionError, match="terminal"):
        chat_loop(ScriptedModel(), None, "Trial 12")


def test_original_edited_and_strengths_answer(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel(["a"], ["b"], ["c"], ["d"])
    terminal.type("Hi", ENTER, "/original", ENTER, "Hi", ENTER, "/strength 0.5", ENTER, "Hi", ENTER)
    terminal.type("/strength much", ENTER, "/strength 3", ENTER, "/edited", ENTER, "Hi", ENTER, "quit", ENTER)

    chat_loop(model, None, "Trial 12")

    assert model.strengths == [1.0, 0.0, 0.5, 1.0]
    output = capsys.readouterr().out
    assert "original> b" in output
    assert "strength 0.5> c" in output
    assert output.count("Write a number from 0 to 1.5") == 2


def test_an_answer_is_written_again_and_both_are_compared(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(["a"], ["b"], ["no"], ["yes"], ["e"])
    terminal.type("/retry", ENTER, "Hi", ENTER, "/retry", ENTER, "/compare", ENTER, "On", ENTER, "exit", ENTER)

    chat_loop(model, None, "Trial 12")

    assert model.strengths == [1.0, 1.0, 0.0, 1.0, 1.0]
    assert model.asked[1] == model.asked[2] == model.asked[3] == [user("Hi")]
    # The conversation goes on with the edited model's answer.
    assert model.asked[4] == [user("Hi"), assistant("yes"), user("On")]
    output = capsys.readouterr().out
    assert "There is no message yet." in output
    assert "original> no" in output


def test_where_only_the_edited_model_can_answer_that_is_said(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(["a"])
    terminal.type("Hi", ENTER, "/original", ENTER, "/compare", ENTER, "/quit", ENTER)

    chat_loop(model, None, "Trial 12", obstacle="the weights are quantised")

    assert model.strengths == [1.0]
    assert capsys.readouterr().out.count("since the weights are quantised") == 2
