"""Chat with a model in the terminal: answers stream, a conversation has many turns, Ctrl+C stops one answer."""

import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace

from prompt_toolkit import PromptSession
from prompt_toolkit.history import InMemoryHistory

from heretic.common.errors import HereticError
from heretic.common.output import clean, printable
from heretic.editors.blend import EDITED, ORIGINAL, STRONGEST
from heretic.interface.asking import require_terminal
from heretic.models.chat_template import Limits, TemplateRefusal

Message = dict[str, str]
Stream = Callable[[list[Message], float], Iterator[str]]
"""All messages, and the strength of the edit (0 is the original model) -> the answer in pieces."""

UNLIMITED = Limits()

HELP = f"""\
/exit          leave (also exit, quit, Ctrl+D, or Ctrl+C at the prompt)
/original      the original model answers from here on
/edited        the edited model does
/compare       both answer the last message again; the edited answer is kept
/strength 0.5  the edit at this strength: 0 the original, 1 the trial, {STRONGEST:g} most
/retry         answer the last message again
/clear         start a new conversation
/system TEXT   set the system prompt (no TEXT: remove it), new conversation
/help          show this list
Ctrl+C         stop the answer that is being written"""
LEAVING = ("/exit", "/quit", "exit", "quit")


@dataclass
class Conversation:
    """What was said so far, in the form that chat templates take.

    Attributes:
        system_prompt: Text before the first turn, or None.
        turns: Messages of user and assistant in turn.
        strength: Of the edit that answers.
        obstacle: Why it cannot be another one; empty where it can.
    """

    system_prompt: str | None
    turns: list[Message] = field(default_factory=list)
    strength: float = EDITED
    obstacle: str = ""

    @property
    def speaker(self) -> str:
        """Who answers."""
        return {ORIGINAL: "original", EDITED: "model"}.get(self.strength, f"strength {self.strength:g}")

    def asked_again(self) -> bool:
        """Take the last answer back; whether a message is left to be answered."""
        while self.turns and self.turns[-1]["role"] == "assistant":
            self.turns.pop()
        return bool(self.turns)

    def messages(self) -> list[Message]:
        """Everything the model is given: the system prompt where there is one, then the turns."""
        system = [] if self.system_prompt is None else [{"role": "system", "content": self.system_prompt}]
        return [*system, *({**turn} for turn in self.turns)]

    def restart(self, system_prompt: str | None) -> None:
        """Forget the turns and go on with this system prompt."""
        self.system_prompt = system_prompt
        self.turns.clear()


def run_command(line: str, conversation: Conversation) -> str | None:
    """Carry out a line that begins with a slash.

    Returns:
        What to tell the person, or None to leave the chat.
    """
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    if name in LEAVING:
        return None
    if name in ("/original", "/edited", "/strength"):
        return _strengthened(name, argument, conversation)
    if name == "/help":
        return HELP
    if name == "/clear":
        conversation.restart(conversation.system_prompt)
        return "New conversation."
    if name == "/system":
        conversation.restart(argument or None)
        return f"System prompt {'set' if argument else 'removed'}; new conversation."
    return f"There is no command {clean(name)}; /help lists those there are."


def _strengthened(name: str, argument: str, conversation: Conversation) -> str:
    """Let another strength answer; what to tell the person."""
    if conversation.obstacle:
        return f"Only the edited model answers here, since {conversation.obstacle}."
    try:
        wanted = {"/original": ORIGINAL, "/edited": EDITED}.get(name)
        strength = float(argument) if wanted is None else wanted
    except ValueError:
        strength = -1.0
    if not ORIGINAL <= strength <= STRONGEST:
        return f"Write a number from 0 to {STRONGEST:g}, e.g. /strength 0.5."
    conversation.strength = strength
    return f"The edit answers at strength {strength:g} now{' (the original model)' if not strength else ''}."


def write(text: str) -> None:
    """Write a piece of an answer at once; control characters and what the terminal cannot show become codes."""
    sys.stdout.write(printable(text, sys.stdout.encoding))
    sys.stdout.flush()


def answer(stream: Stream, conversation: Conversation) -> None:
    """Let the model answer the last turn, and keep what it said, also where Ctrl+C cut it short.

    Where the answer fails, the person is told why and the unanswered turn is taken back.
    """
    said: list[str] = []
    note = ""
    pieces: Iterator[str] = iter(())
    try:
        pieces = _begun(stream, conversation)
        write(f"{conversation.speaker}> ")
        try:
            for piece in pieces:
                said.append(piece)
                write(piece)
        finally:
            # Ends the generation behind it, which would go on in its thread.
            if isinstance(pieces, Generator):
                pieces.close()
    except KeyboardInterrupt:
        note = "[stopped]"
    except HereticError as error:
        note = f"Warning: {error}"
    text = "".join(said)
    if text:
        conversation.turns.append({"role": "assistant", "content": text})
    else:
        conversation.turns.pop()
        note = note or "[empty answer]"
    separator = "\n" if note and text and not text.endswith("\n") else ""
    write(f"{separator}{note}\n\n")


def _begun(stream: Stream, conversation: Conversation) -> Iterator[str]:
    """The answer's pieces; where the template refuses what was said so far, those to the last message alone."""
    try:
        return stream(conversation.messages(), conversation.strength)
    except TemplateRefusal as refusal:
        write(f"[{clean(str(refusal))} This message does.]\n")
        del conversation.turns[:-1]
        return stream(conversation.messages(), conversation.strength)


def limits_text(limits: Limits, has_system_prompt: bool) -> str:
    """What a person is told of a template's limits, a line each; empty where there are none that concern them."""
    lines = []
    if limits.turns:
        lines.append(f"The model's chat template takes one message at a time ({limits.turns}), so each starts anew.")
    if limits.system and has_system_prompt:
        lines.append(
            f"It takes no system prompt ({limits.system}), so that text stands at the head of the first message."
        )
    return "".join(f"{clean(line)}\n" for line in lines)


def answer_again(name: str, stream: Stream, conversation: Conversation) -> None:
    """Answer the last message again: once, or (``/compare``) by the original and by the edited model."""
    if not conversation.asked_again():
        write("There is no message yet.\n\n")
        return
    if name == "/retry":
        answer(stream, conversation)
        return
    if conversation.obstacle:
        write(f"Only the edited model answers here, since {conversation.obstacle}.\n\n")
        return
    before = conversation.strength
    for strength in (ORIGINAL, EDITED):
        conversation.strength = strength
        if conversation.asked_again():
            answer(stream, conversation)
    conversation.strength = before


def chat_loop(
    stream: Stream, system_prompt: str | None, title: str, limits: Limits = UNLIMITED, obstacle: str = ""
) -> None:
    """Talk until the person leaves with /exit, Ctrl+D, or Ctrl+C at the prompt.

    Args:
        stream: Takes all messages and yields the answer in pieces.
        system_prompt: Given before the first turn; None for none.
        title: First line, e.g. which model and trial answers.
        limits: What the model's chat template does not take.
        obstacle: Why only the edited model answers; empty where the original one does too.

    Raises:
        SelectionError: No terminal.
    """
    require_terminal("chat", "Start heretic in a terminal to chat, or save the model and load it elsewhere.")
    conversation = Conversation(system_prompt, obstacle=obstacle)
    session: PromptSession[str] = PromptSession(history=InMemoryHistory())
    write(f"{title}\n/help lists the commands, /exit leaves.\n{limits_text(limits, system_prompt is not None)}\n")
    while True:
        try:
            line = session.prompt("you> ").strip()
        except (KeyboardInterrupt, EOFError):
            return
        if not line:
            continue
        if line in ("/retry", "/compare"):
            answer_again(line, stream, conversation)
            continue
        if line.startswith("/") or line.lower() in LEAVING:
            reply = run_command(line.lower() if line.lower() in LEAVING else line, conversation)
            if reply is None:
                return
            new_prompt = line.startswith("/system ") and conversation.system_prompt is not None
            write(f"{reply}\n{limits_text(replace(limits, turns=''), new_prompt)}\n")
            continue
        if limits.turns:
            conversation.turns.clear()
        conversation.turns.append({"role": "user", "content": line})
        answer(stream, conversation)
