"""The prompt sets of a run."""

from dataclasses import dataclass

from heretic.config import Settings
from heretic.observability.events import Warned, emit
from heretic.prompts.sources import load_prompt_set, overlap
from heretic.prompts.types import PromptSet


@dataclass(frozen=True, slots=True)
class PromptSets:
    """The four prompt sets of a run: *good* is the baseline, *bad* the target of the behaviour."""

    good: PromptSet
    bad: PromptSet
    good_evaluation: PromptSet
    bad_evaluation: PromptSet


def load_prompts(settings: Settings) -> PromptSets:
    """Read the four prompt sets and report evaluation prompts that also stand in a training set."""
    sets = {
        role: load_prompt_set(role, getattr(settings, role), settings.system_prompt)
        for role in ("good_prompts", "bad_prompts", "good_evaluation_prompts", "bad_evaluation_prompts")
    }
    for training, evaluation in (
        ("good_prompts", "good_evaluation_prompts"),
        ("bad_prompts", "bad_evaluation_prompts"),
    ):
        shared = len(overlap(sets[training], sets[evaluation]))
        if shared:
            emit(
                Warned(
                    f"{shared} of {len(sets[evaluation])} {evaluation} also stand in {training}; results on them are "
                    "too good."
                )
            )
    return PromptSets(*sets.values())
