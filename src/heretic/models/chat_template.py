"""From a prompt to the text that a model reads: with its chat template, around its template's limits, or without one."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from heretic.prompts.types import Prompt

Message = Mapping[str, str]

SWITCHES = {"enable_thinking": False, "thinking": False}
"""Variables that templates of reasoning models know; others ignore them."""


class ChatFormatter:
    """Renders prompts and conversations for one tokenizer.

    Attributes:
        has_template: Whether the tokenizer has a chat template; else a plain transcript format is used.
        supports_system: Whether the template takes a system message; else its text joins the first user message.
        add_special_tokens: Whether the tokenizer has to add its own (a template writes them itself).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        self.has_template = bool(tokenizer.chat_template)
        self.supports_system = self.has_template and self._keeps_system_message()
        self.add_special_tokens = not self.has_template

    def _keeps_system_message(self) -> bool:
        probe = [{"role": "system", "content": "PROBE-SYSTEM"}, {"role": "user", "content": "PROBE-USER"}]
        try:
            rendered = self._apply(probe)
        except TemplateError:
            # How templates such as Gemma's refuse the role.
            return False
        # Some templates drop the message without a word.
        return "PROBE-SYSTEM" in rendered

    def _apply(self, messages: Sequence[Message]) -> str:
        rendered: str = self._tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **SWITCHES
        )
        return rendered

    def render(self, prompt: Prompt) -> str:
        """A single request, followed by the beginning of its answer."""
        messages = [{"role": "user", "content": prompt.user}]
        if prompt.system:
            messages.insert(0, {"role": "system", "content": prompt.system})
        return self.render_messages(messages) + prompt.prefix

    def render_messages(self, messages: Sequence[Message]) -> str:
        """A conversation, up to where the next answer begins."""
        if not self.has_template:
            return _transcript(messages)
        return self._apply(messages if self.supports_system else without_system(messages))


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The same conversation with the system message's text at the head of the first user message."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    others: list[Message] = [message for message in messages if message["role"] != "system"]
    if system and others:
        others[0] = {"role": others[0]["role"], "content": f"{system}\n\n{others[0]['content']}"}
    return others


def _transcript(messages: Sequence[Message]) -> str:
    names = {"user": "User: ", "assistant": "Assistant: ", "system": ""}
    paragraphs = [f"{names[message['role']]}{message['content']}" for message in messages]
    return "\n\n".join([*paragraphs, "Assistant:"])
