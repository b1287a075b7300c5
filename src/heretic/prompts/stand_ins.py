"""Texts that transforms compare: bundled stand-ins for default hub datasets where there is no hub, and one length."""

import re
from dataclasses import replace

from heretic.common.errors import PromptError, causes
from heretic.common.hub_errors import OUT_OF_REACH, hub_failure
from heretic.config import PromptSpecification
from heretic.observability.events import Warned, emit
from heretic.prompts.sources import load_prompt_set
from heretic.prompts.types import PromptSet

STAND_INS = {
    "helpful_prompts": "bundled:helpfulness/helpful",
    "unhelpful_prompts": "bundled:helpfulness/unhelpful",
    "sacred_prompts": "bundled:capability/questions",
    "sacred_baseline_prompts": "bundled:capability/text",
}
"""Setting -> small bundled set of the same kind."""
LONGEST = 1000
"""Characters of a text that are read: a web page may be longer than what fits into a model's context or memory."""


def load_compared_texts(
    role: str, specification: PromptSpecification, default: PromptSpecification, system_prompt: str | None
) -> PromptSet:
    """Read a set of texts that a transform asks for, each cut after 1,000 characters.

    Args:
        role: The setting's name.
        specification: Its value.
        default: Its default: only for this, and only where the hub cannot be reached, the bundled stand-in is used
            instead, and Warned says so.
        system_prompt: See `load_prompt_set`.

    Raises:
        PromptError: As `load_prompt_set`.
    """
    try:
        prompt_set = load_prompt_set(role, specification, system_prompt)
    except PromptError as error:
        failure = hub_failure(causes(error))
        stand_in = STAND_INS.get(role)
        if failure is None or failure[0] not in OUT_OF_REACH or stand_in is None or specification != default:
            raise
        emit(
            Warned(
                f"{role}: the hub cannot be reached for {specification.dataset}, so the small {stand_in} stands in; "
                f"name a local file with --{role.replace('_', '-')} for more texts."
            )
        )
        prompt_set = load_prompt_set(role, PromptSpecification(dataset=stand_in), system_prompt)
    prompts = tuple(replace(prompt, user=_beginning(prompt.user)) for prompt in prompt_set.prompts)
    return PromptSet(role, prompts)


def _beginning(text: str) -> str:
    """A text, or as many of its whole words as fit."""
    return text if len(text) <= LONGEST else re.sub(r"\s+\S*$", "", text[: LONGEST + 1])[:LONGEST]
