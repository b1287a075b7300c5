"""What is wrong with a behaviour pack: prompts that cannot be read or stand in two parts, no such evaluator."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heretic.common.errors import ConfigurationError, HereticError, PluginError, PromptError, did_you_mean
from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS, Evaluator, evaluator_of, pack_options
from heretic.evaluation.words_of_texts import words
from heretic.prompts.packs import PARTS, ROLES, Pack
from heretic.prompts.sets import packs_of
from heretic.prompts.sources import is_local, is_missing, load_prompt_set, overlap
from heretic.prompts.text_files import BUNDLED_PREFIX, bundled_packs
from heretic.prompts.types import PromptSet

_PARTS = ("prompts", "evaluation_prompts", "held_out_prompts")
_WORD = re.compile(r"\w+")
FEW_PROMPTS = 16
"""Fewer training prompts on a side give directions of which much is chance."""
_LONGEST_PHRASE = 16
"""Words of a repeated phrase that are told apart."""


@dataclass(frozen=True, slots=True)
class PackState:
    """What was found.

    Attributes:
        counts: Number of prompts by setting; None for those that are on a hub and were not read, or cannot be read.
        paired: Whether target and baseline prompts of the same line are pairs, in every part.
        problems: Sentences; none where the pack can be used.
        remarks: Sentences on what can be used, but will hardly show what one is after.
        alternatives: The evaluators with a model that reads answers by which it could be measured as well.
        kept: Number of prompts, part by part, of each set whose answers have to stay, as above.
    """

    counts: dict[str, int | None]
    paired: bool
    problems: tuple[str, ...]
    alternatives: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    kept: tuple[tuple[int | None, ...], ...] = ()


def check_pack(pack: Pack) -> PackState:
    """Read a pack's local prompts and hold them against each other."""
    problems = _evaluator_problems(pack)
    if not problems:
        problems += _idle_options(pack)
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
    kept = []
    for each in pack.keep:
        counted, wrong = _check_kept_set(each)
        kept.append(counted)
        problems += wrong
    paired = all(_are_pairs(sets[f"bad_{part}"], sets[f"good_{part}"]) for part in _PARTS)
    remarks = [
        *_few_prompts(target, baseline),
        *_one_phrase(sets["bad_evaluation_prompts"], sets["good_evaluation_prompts"]),
    ]
    return PackState(counts, paired, tuple(problems), alternatives(pack), tuple(remarks), tuple(kept))


def _check_kept_set(pack: Pack) -> tuple[tuple[int | None, ...], list[str]]:
    """Number of prompts in each part, and what is wrong with a set whose answers have to stay."""
    problems: list[str] = []
    sets: list[PromptSet | None] = []
    try:
        check_kept(pack)
    except HereticError as error:
        problems.append(f"keep {pack.name}: {error}")
    for part in PARTS:
        named = pack.prompts[part]
        # Only a direction that is kept off them would be found with training prompts.
        unread = not is_local(named.dataset) or (part == "train" and _is_absent(named.dataset))
        try:
            sets.append(None if unread else load_prompt_set(f"keep {pack.name} {part}", named, None))
        except PromptError as error:
            sets.append(None)
            problems.append(str(error))
    counts = tuple(None if part is None else len(part) for part in sets)
    return counts, problems + _overlaps(sets)


def _is_absent(name: str) -> bool:
    """Whether a set is named that is on this machine, but is not there."""
    if name.startswith(BUNDLED_PREFIX):
        return "train" not in bundled_packs().get(name.removeprefix(BUNDLED_PREFIX), {})
    return is_missing(name)


def check_evaluator(pack: Pack) -> None:
    """Refuse a pack that cannot be measured as it says; nothing is loaded.

    Raises:
        ConfigurationError: Its options lack what its evaluator needs, cannot be used, or are read by no evaluator; one
            line per problem.
        PluginError: There is no evaluator of the name that it gives, or it cannot be imported.
    """
    problems: list[str] = []
    try:
        pack_options(pack)
    except ConfigurationError as error:
        problems += str(error).splitlines()
    read = evaluator_of(pack).Options.model_fields
    unread = [name for name in pack.options.further if name not in read]
    if unread:
        readable = {name for evaluator in _usable_evaluators(pack).values() for name in evaluator.Options.model_fields}
        problems += [
            f"{pack.name}: options.{name}: no evaluator reads it; {did_you_mean(name, readable) or 'leave it out.'} "
            f"There are {', '.join(sorted(readable))}."
            for name in unread
            if name not in readable
        ]
    if problems:
        raise ConfigurationError("\n".join(problems))


def check_kept(pack: Pack) -> None:
    """Refuse answers that have to stay what they are where no evaluator can say of a single one whether it did.

    Raises:
        ConfigurationError, PluginError: See `check_evaluator`; or the evaluator measures amounts.
    """
    check_evaluator(pack)
    unit = evaluator_of(pack).unit
    if unit:
        raise ConfigurationError(
            f"What has to stay of {pack.name} is counted answer by answer, but its evaluator {pack.evaluator} measures "
            f"{unit}; name one that counts answers (patterns, markers, classifier, judge), or leave out --keep-prompts."
        )


def measured_packs(settings: Settings) -> tuple[Pack, ...]:
    """The packs that the settings name, with the evaluator that the user prefers wherever they can be measured by it.

    Raises:
        ConfigurationError: There is no such pack, or its file cannot be used.
        PluginError: There is no such evaluator.
    """
    packs, preferred = packs_of(settings), settings.measure_with
    if preferred == "pack":
        return packs
    EVALUATORS.get(preferred)
    return tuple(replace(pack, evaluator=preferred) if preferred in alternatives(pack) else pack for pack in packs)


def alternatives(pack: Pack) -> tuple[str, ...]:
    """Names of the evaluators with a model that reads answers by which the pack could be measured as well."""
    readers = [name for name, evaluator in _usable_evaluators(pack).items() if evaluator.reader]
    others = [replace(pack, evaluator=name) for name in readers if name != pack.evaluator]
    return tuple(other.evaluator for other in others if not _evaluator_problems(other))


def _usable_evaluators(pack: Pack) -> dict[str, type[Evaluator]]:
    """All evaluators by name but those that cannot be imported, which is said of a pack that names one."""
    evaluators = {}
    for name in EVALUATORS.names():
        try:
            evaluators[name] = evaluator_of(replace(pack, evaluator=name))
        except PluginError:
            continue
    return evaluators


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
        return str(error).splitlines()
    return []


def _idle_options(pack: Pack) -> list[str]:
    """Options that neither the pack's evaluator reads nor another one by which it could be measured."""
    evaluators = [evaluator_of(replace(pack, evaluator=name)) for name in (pack.evaluator, *alternatives(pack))]
    read = {name for evaluator in evaluators for name in evaluator.Options.model_fields}
    return [
        f"options.{name} is not read by the evaluator {pack.evaluator}; leave it out, or name another evaluator."
        for name in pack.options.further
        if name not in read
    ]


def _are_pairs(target: PromptSet | None, baseline: PromptSet | None) -> bool:
    """Whether most lines of two sets share most of the shorter one's words, as one question asked in two ways does."""
    if target is None or baseline is None or len(target) != len(baseline):
        return False
    sides = [[_distinct_words(prompt.user) for prompt in side.prompts] for side in (target, baseline)]
    alike = sum(2 * len(first & second) > min(len(first), len(second)) for first, second in zip(*sides, strict=True))
    return 2 * alike > len(target)


def _distinct_words(text: str) -> set[str]:
    return set(_WORD.findall(" ".join(words(text.casefold()))))


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


def _few_prompts(target: PromptSet | None, baseline: PromptSet | None) -> list[str]:
    return [
        f"{side.name}: {len(side)} training prompts are few; below {FEW_PROMPTS} on each side much of a direction is "
        "chance, and 40 or more are enough."
        for side in (target, baseline)
        if side is not None and len(side) < FEW_PROMPTS
    ]


def _one_phrase(target: PromptSet | None, baseline: PromptSet | None) -> list[str]:
    """Says so where evaluation prompts ask for the behaviour: then one measures how well instructions are followed."""
    phrase = "" if target is None or baseline is None else repeated_phrase(target, baseline)
    if not phrase or target is None:
        return []
    return [
        f"{target.name}: most prompts differ from the other side's by the same words ({phrase!r}), so following an "
        "instruction would be measured and not what the model does by itself; ask plain questions here, and leave the "
        "instruction to the training prompts."
    ]


def repeated_phrase(target: PromptSet, baseline: PromptSet) -> str:
    """The longest words, two or more, that most target prompts begin or end with and hardly any baseline prompt."""
    sides = [[prompt.user.split() for prompt in side.prompts] for side in (target, baseline)]
    found: list[tuple[str, ...]] = []
    for part in (_beginning, _ending):
        for length in range(_LONGEST_PHRASE, 1, -1):
            ours, others = (Counter(part(text, length) for text in side if len(text) > length) for side in sides)
            phrase, count = (ours.most_common(1) or [((), 0)])[0]
            if 2 * count > len(target) and 4 * others[phrase] < len(baseline):
                found.append(phrase)
                break
    return max(map(" ".join, found), key=len, default="")


def _beginning(words: Sequence[str], length: int) -> tuple[str, ...]:
    return tuple(words[:length])


def _ending(words: Sequence[str], length: int) -> tuple[str, ...]:
    return tuple(words[-length:])
