"""From a prompt to the text that a model reads: with its chat template, around that template's limits, or without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError, TemplateRuntimeError
from transformers import PreTrainedTokenizerBase

from heretic.common.errors import ModelError, first_line
from heretic.models.limited import MEMORY, LimitReachedError, limited
from heretic.prompts.types import Prompt

Message = Mapping[str, str]

SWITCHES = {"enable_thinking": False, "thinking": False}
"""Variables that templates of reasoning models know; others ignore them."""

_UNDATED = "{% macro strftime_now(format) %}today{% endmacro %}"
"""Put before a template that writes the date, it has it write the same on every day."""

LONGEST_TEXT, MOST_TIMES = 10**6, 10
"""Characters that a template may write of its own, and how often it may write those of the messages."""
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LimitReachedError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What expressions of a template raise, beside Jinja's own errors."""

_PROBE_SYSTEM = "PROBE-SYSTEM"
_PROBE_USER = "PROBE-USER"
_PROBE_TURNS = ("PROBE-FIRST", "PROBE-ANSWER", "PROBE-SECOND")


class TemplateRefusal(ModelError):
    """A chat template that can be used refuses a conversation."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Why a template does not take all that a chat gives it; empty where it does.

    Attributes:
        turns: Why a message cannot follow earlier ones.
        system: Why a system message's text joins the first user message.
    """

    turns: str = ""
    system: str = ""


class ChatFormatter:
    """Renders prompts and conversations for one tokenizer.

    Attributes:
        has_template: Whether the tokenizer has a chat template; else a plain transcript format is used.
        limits: What a chat has to do without.
        supports_system: Whether the template takes a system message; else its text joins the first user message.
        add_special_tokens: Whether the tokenizer has to add its own (a template writes them itself).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Learn by trial what the template can do.

        Raises:
            ModelError: The template fails on the simplest conversation.
        """
        self._tokenizer: Any = tokenizer
        self._in_parts = self._turns_in_parts = False
        self.limits = Limits()
        self.has_template = bool(tokenizer.chat_template)
        self.add_special_tokens = not self.has_template
        if self.has_template:
            self._in_parts = self._needs_parts()
            self._turns_in_parts, turns = self._turns()
            self.limits = Limits(turns, self._system())
        self.supports_system = self.has_template and not self.limits.system

    def _needs_parts(self) -> bool:
        """Whether the text of a message has to be a list of typed parts, as in some vision-language templates.

        Such templates walk over a plain text letter by letter and drop it without a word.
        """
        probe = [{"role": "user", "content": _PROBE_USER}]
        problem = "it drops the user's message"
        for in_parts in (False, True):
            try:
                if _PROBE_USER in self._apply(probe, in_parts):
                    return in_parts
            except TemplateError as error:
                problem = first_line(error)
        raise ModelError(_unusable(problem))

    def _turns(self) -> tuple[bool, str]:
        """Whether texts of several turns have to be in parts, and why there cannot be several, if there cannot."""
        roles = ("user", "assistant", "user")
        probe = [{"role": role, "content": text} for role, text in zip(roles, _PROBE_TURNS, strict=True)]
        problem = ""
        # Some templates want parts of the assistant's messages alone.
        for in_parts in (self._in_parts, not self._in_parts):
            try:
                rendered = self._apply(probe, in_parts)
            except TemplateError as error:
                problem = problem or first_line(error)
                continue
            if all(text in rendered for text in _PROBE_TURNS):
                return in_parts, ""
            problem = problem or "it drops earlier messages"
        return self._in_parts, problem

    def _system(self) -> str:
        """Why the template takes no system message, if it does not."""
        probe = [{"role": "system", "content": _PROBE_SYSTEM}, {"role": "user", "content": _PROBE_USER}]
        try:
            rendered = self._apply(probe, self._in_parts)
        except TemplateError as error:
            # How templates such as Gemma's refuse the role.
            return first_line(error)
        return "" if _PROBE_SYSTEM in rendered else "it drops a system message"

    def _apply(self, messages: Sequence[Message], in_parts: bool, undated: bool = False) -> str:
        conversation = [
            {**message, "content": [{"type": "text", "text": message["content"]}] if in_parts else message["content"]}
            for message in messages
        ]
        switches: dict[str, Any] = dict(SWITCHES)
        if undated:
            switches["chat_template"] = _UNDATED + self._tokenizer.get_chat_template()
        try:
            with limited():
                rendered: str = self._tokenizer.apply_chat_template(
                    conversation, tokenize=False, add_generation_prompt=True, **switches
                )
        except MemoryError as error:
            raise TemplateRuntimeError(f"it takes more than {MEMORY // 1024**2} MiB of memory") from error
        except _FAILURES as error:
            raise TemplateRuntimeError(f"{type(error).__name__}: {first_line(error)}") from error
        if len(rendered) > LONGEST_TEXT + MOST_TIMES * sum(len(message["content"]) for message in messages):
            raise TemplateRuntimeError(f"it makes {len(rendered)} characters of a short conversation")
        return rendered

    def render(self, prompt: Prompt, undated: bool = False) -> str:
        """A single request, followed by the beginning of its answer; undated, on a day that is always the same."""
        messages = [{"role": "user", "content": prompt.user}]
        if prompt.system:
            messages.insert(0, {"role": "system", "content": prompt.system})
        return self.render_messages(messages, undated) + prompt.prefix

    def render_messages(self, messages: Sequence[Message], undated: bool = False) -> str:
        """A conversation (``role`` and ``content`` of each message), up to where the next answer begins.

        Args:
            messages: The conversation.
            undated: Let a template that writes the date write the same on every day.

        Raises:
            ModelError: The template fails on it; a TemplateRefusal where the conversation has several turns.
        """
        if not self.has_template:
            return _transcript(messages)
        said = messages if self.supports_system else without_system(messages)
        several = any(message["role"] == "assistant" for message in messages)
        try:
            return self._apply(said, self._turns_in_parts if several else self._in_parts, undated)
        except TemplateError as error:
            if several:
                raise TemplateRefusal(
                    f"The model's chat template refuses this conversation ({first_line(error)}); begin a new one."
                ) from error
            raise ModelError(_unusable(first_line(error))) from error


def _unusable(problem: str) -> str:
    return f"The model's chat template cannot be used ({problem}); correct chat_template.jinja in the model's folder."


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The same conversation with the system message's text at the head of the first other message."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    others: list[Message] = [message for message in messages if message["role"] != "system"]
    if system and others:
        others[0] = {**others[0], "content": f"{system}\n\n{others[0]['content']}"}
    return others


def _transcript(messages: Sequence[Message]) -> str:
    names = {"user": "User: ", "assistant": "Assistant: ", "system": ""}
    paragraphs = [f"{names[message['role']]}{message['content']}" for message in messages]
    return "\n\n".join([*paragraphs, "Assistant:"])
