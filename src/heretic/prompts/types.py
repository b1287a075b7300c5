"""Prompt and PromptSet: the frozen input of every measurement."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to the model.

    Attributes:
        user: The user's message.
        system: The system message, or None for none.
        prefix: Text that the assistant's answer starts with (it is not generated), usually empty.
    """

    user: str
    system: str | None = None
    prefix: str = ""


@dataclass(frozen=True)
class PromptSet:
    """Named, ordered prompts with a fingerprint of their content."""

    name: str
    prompts: tuple[Prompt, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the prompts in order; the name does not count."""
        content = json.dumps([[prompt.system, prompt.user, prompt.prefix] for prompt in self.prompts])
        return hashlib.sha256(content.encode()).hexdigest()
