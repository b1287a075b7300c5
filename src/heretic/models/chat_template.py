"""From a prompt to the text that a model reads: with its chat template, around that template's limits, or without."""

from collections.abc import Mapping, Sequence
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


class ChatFormatter:
    """Renders prompts and conversations for one tokenizer.

    Attributes:
        has_template: Whether the tokenizer has a chat template; else a plain transcript format is used.
        supports_system: Whether the template takes a system message; else its text joins the first user message.
        add_special_tokens: Whether the tokenizer has to add its own (a template writes them itself).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Learn by trial what the template can do.

        Raises:
            ModelError: The template fails on the simplest conversation.
        """
        self._tokenizer: Any = tokenizer
        self._in_parts = False
        self.has_template = bool(tokenizer.chat_template)
        self.add_special_tokens = not self.has_template
        if self.has_template:
            self._in_parts = self._needs_parts()
        self.supports_system = self.has_template and self._keeps_system_message()

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

    def _keeps_system_message(self) -> bool:
        probe = [{"role": "system", "content": _PROBE_SYSTEM}, {"role": "user", "content": _PROBE_USER}]
        try:
            rendered = self._apply(probe, self._in_parts)
        except TemplateError:
            # How templates such as Gemma's refuse the role.
            return False
        # Some templates drop the message without a word.
        return _PROBE_SYSTEM in rendered

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
            ModelError: The template fails on it.
        """
        if not self.has_template:
            return _transcript(messages)
        try:
            said = messages if self.supports_system else without_system(messages)
            return self._apply(said, self._in_parts, undated)
        except TemplateError as error:
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
