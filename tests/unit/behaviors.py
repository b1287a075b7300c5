"""Behaviours made by hand, for tests that read no pack."""

from typing import Any

from heretic.prompts.packs import Pack, PackOptions
from heretic.prompts.sets import Behavior, PromptSets
from heretic.prompts.types import PromptSet


def pack(name: str = "refusal", evaluator: str = "markers", **options: Any) -> Pack:
    """A pack that names no prompts."""
    return Pack(name, f"What {name} is.", f"The card's words on {name}.", evaluator, PackOptions(**options), {})


def one_behavior(
    good: PromptSet,
    bad: PromptSet,
    good_evaluation: PromptSet | None = None,
    bad_evaluation: PromptSet | None = None,
    own: Pack | None = None,
) -> PromptSets:
    """The prompts of one behaviour; those to find it with also measure it, unless others are given."""
    return PromptSets((Behavior(own or pack(), good, bad, good_evaluation or good, bad_evaluation or bad),))
