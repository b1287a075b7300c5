"""What is wrong with a behaviour pack: prompts that cannot be read or stand in two parts, no such evaluator."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from heretic.common.errors import ConfigurationError, HereticError, PluginError, PromptError
from heretic.evaluation.evaluator import EVALUATORS, READING, behavior_evaluators
from heretic.evaluation.marks import Marks
from heretic.prompts.packs import ROLES, Pack
from heretic.prompts.sources import is_local, load_prompt_set, overlap
from heretic.prompts.types import PromptSet

_PARTS = ("prompts", "evaluation_prompts", "held_out_prompts")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class PackState:
    """What was found.

    Attributes:
        counts: Number of prompts by setting; None for those that are on a hub and were not read, or cannot be read.
        paired: Whether target and baseline prompts of the same line are pairs, in every part.
        problems: Sentences; none where the pack can be used.
    """

    counts: dict[str, int | None]
    paired: bool
    problems: tuple[str, ...]


def check_pack(pack: Pack) -> PackState:
    """Read a pack's local prompts and hold them against each other."""
    problems = _evaluator_problems(pack)
    sets: dict[str, PromptSet | None] = {}
    for role in ROLES:
        sets[role] = None
        if not is_local(pack.prompts[role].dataset):
            continue
        try:
            sets[role] = load_prompt_set(role, pack.prompts[role], None)
        except PromptError as error:
            problems.append(str(error))
    target, baseline = sets["bad_prompts"], sets["good_prompts"]
    if target is not None and baseline is not None:
        try:
            check_training(pack.name, target, baseline)
        except ConfigurationError as error:
            problems.append(str(error))
    for side in ("good", "bad"):
        problems += _overlaps([sets[f"{side}_{part}"] for part in _PARTS])
    counts = {role: None if prompt_set is None else len(prompt_set) for role, prompt_set in sets.items()}
    paired = all(_are_pairs(sets[f"bad_{part}"], sets[f"good_{part}"]) for part in _PARTS)
    return PackState(counts, paired, tuple(problems))


def check_evaluator(pack: Pack) -> None:
    """Refuse a pack that cannot be measured as it says; nothing is loaded.

    Raises:
        ConfigurationError: Its evaluator needs patterns or hypotheses that it lacks or that cannot be used.
        PluginError: No evaluator that measures behaviours has the name that it gives, or it cannot be imported.
    """
    names = behavior_evaluators()
    if pack.evaluator not in names:
        raise PluginError(
            f"There is no evaluator named {pack.evaluator} that measures a behaviour such as {pack.name}; choose one "
            f"of {', '.join(names)}."
        )
    EVALUATORS.get(pack.evaluator)
    if pack.evaluator == "density":
        Marks(pack.options.patterns)
    if pack.evaluator in READING and not pack.options.hypotheses:
        raise ConfigurationError(f"The {pack.evaluator} of {pack.name} needs hypotheses; add some to its options.")


def check_training(name: str, target: PromptSet, baseline: PromptSet) -> None:
    """Refuse training prompts of a behaviour between which no direction can lead; their order does not count.

    Raises:
        ConfigurationError: Target and baseline are the same.
    """
    if set(target.prompts) == set(baseline.prompts):
        raise ConfigurationError(
            f"The training prompts of {name} are the same on both sides, {target.name} and {baseline.name}, so no "
            "direction tells them apart; change one side."
        )


def _evaluator_problems(pack: Pack) -> list[str]:
    try:
        check_evaluator(pack)
    except HereticError as error:
        return [str(error)]
    if pack.options.patterns and pack.evaluator != "density":
        return [f"patterns are only counted by the evaluator density, not by {pack.evaluator}."]
    return []


def _are_pairs(target: PromptSet | None, baseline: PromptSet | None) -> bool:
    """Whether most lines of two sets share most of the shorter one's words, as one question asked in two ways does."""
    if target is None or baseline is None or len(target) != len(baseline):
        return False
    words = [[set(_WORD.findall(prompt.user.casefold())) for prompt in side.prompts] for side in (target, baseline)]
    alike = sum(2 * len(first & second) > min(len(first), len(second)) for first, second in zip(*words, strict=True))
    return 2 * alike > len(target)


def _overlaps(parts: Sequence[PromptSet | None]) -> list[str]:
    present = [part for part in parts if part is not None]
    result = []
    for index, first in enumerate(present):
        for second in present[index + 1 :]:
            shared = len(overlap(first, second))
            if shared:
                result.append(f"{shared} of {len(second)} {second.name} also stand in {first.name}; use others.")
        texts = [prompt.user for prompt in first.prompts]
        twice = len(texts) - len(set(texts))
        if twice:
            result.append(f"{first.name}: {twice} of {len(texts)} prompts stand there twice.")
    return result
