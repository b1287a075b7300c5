"""The prompt sets of a run: of every behaviour those to find and to measure it with, but not the held-out ones."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from heretic.common.errors import PromptError
from heretic.config import PromptSpecification, Settings
from heretic.observability.events import Warned, emit
from heretic.prompts.packs import Pack, find_pack
from heretic.prompts.sources import is_missing, load_prompt_set, overlap
from heretic.prompts.types import PromptSet


@dataclass(frozen=True)
class Behavior:
    """One behaviour with its prompts: those that show it are the target, the others the baseline."""

    pack: Pack
    baseline: PromptSet
    target: PromptSet
    baseline_evaluation: PromptSet
    target_evaluation: PromptSet


@dataclass(frozen=True)
class Kept:
    """Prompts whose answers have to stay what they are, and in whose eyes: `pack` says what judges them."""

    pack: Pack
    evaluation: PromptSet


@dataclass(frozen=True)
class PromptSets:
    """The behaviours of a run, each kind of their prompts together, and what has to stay."""

    behaviors: tuple[Behavior, ...]
    kept: tuple[Kept, ...] = ()

    @property
    def judged(self) -> tuple[Pack, ...]:
        """What says how answers are judged: of behaviours, then of what has to stay."""
        return (*(behavior.pack for behavior in self.behaviors), *(kept.pack for kept in self.kept))

    @cached_property
    def baseline(self) -> PromptSet:
        """Training prompts of the baselines."""
        return _joined([behavior.baseline for behavior in self.behaviors])

    @cached_property
    def target(self) -> PromptSet:
        """Training prompts of the targets."""
        return _joined([behavior.target for behavior in self.behaviors])

    @cached_property
    def baseline_evaluation(self) -> PromptSet:
        """What damage is measured on."""
        return _joined([behavior.baseline_evaluation for behavior in self.behaviors])

    @cached_property
    def target_evaluation(self) -> PromptSet:
        """What the behaviours are measured on."""
        return _joined([behavior.target_evaluation for behavior in self.behaviors])

    @cached_property
    def answered(self) -> PromptSet:
        """What is answered in a trial: targets, and prompts whose answers have to stay what they are."""
        return _joined([self.target_evaluation, *(kept.evaluation for kept in self.kept)])


def _joined(sets: list[PromptSet]) -> PromptSet:
    if len(sets) == 1:
        return sets[0]
    # Behaviours may share prompts, which count once.
    return PromptSet(sets[0].name, tuple(dict.fromkeys(prompt for prompts in sets for prompt in prompts.prompts)))


def packs_of(settings: Settings) -> tuple[Pack, ...]:
    """The packs that the settings name.

    Raises:
        ConfigurationError: There is no such pack, or its file cannot be used.
    """
    return tuple(map(find_pack, settings.behavior))


def kept_packs(settings: Settings, packs: Iterable[Pack]) -> tuple[Pack, ...]:
    """What has to stay: the sets that packs name, and the prompts of `keep_prompts`, judged as each behaviour is."""
    if settings.keep_as == "off":
        return ()
    asked = {"evaluation": settings.keep_prompts, "held_out": settings.keep_held_out_prompts}
    prompts = {part: specification for part, specification in asked.items() if specification is not None}
    kept: list[Pack] = []
    for pack in packs:
        own = [replace(pack, prompts=prompts, keep=())] if settings.keep_prompts is not None else []
        for each in (*own, *pack.keep):
            taken = any(each.name == other.name for other in kept)
            kept.append(replace(each, name=f"{pack.name}-{each.name}") if taken else each)
    return tuple(kept)


def load_kept(settings: Settings, pack: Pack, part: str) -> PromptSet | None:
    """One part of the prompts whose answers have to stay what they are; None where it is not named.

    Raises:
        PromptError: They cannot be read.
    """
    named = pack.prompts.get(part)
    return None if named is None else load_prompt_set(f"keep {pack.name} {part}", named, settings.system_prompt)


def specification(settings: Settings, pack: Pack, role: str) -> PromptSpecification:
    """Where a prompt set is: where the user says, else where the pack does."""
    chosen: PromptSpecification = getattr(settings, role)
    default: PromptSpecification = Settings.model_fields[role].default
    # What is the default, and was given all the same, is meant.
    if chosen.dataset != default.dataset or (chosen == default and role in settings.model_fields_set):
        return chosen
    # Of the pack's own dataset the user may choose another split, number or shape.
    parts = {name: part for name, part in chosen.model_dump().items() if part != getattr(default, name)}
    return pack.prompts[role].model_copy(update=parts)


def held_out_specification(settings: Settings, pack: Pack, role: str) -> PromptSpecification | None:
    """Where a held-out set is; None where the user measures with other prompts and names no held-out ones."""
    evaluation_role = role.replace("held_out", "evaluation")
    default: PromptSpecification = Settings.model_fields[evaluation_role].default
    measured: PromptSpecification = getattr(settings, evaluation_role)
    if measured.dataset != default.dataset and not _is_changed(settings, role):
        return None
    return specification(settings, pack, role)


def check_held_out_files(settings: Settings, packs: Iterable[Pack]) -> None:
    """Notice before the search that a file of held-out prompts is missing, without opening any.

    Raises:
        PromptError: There is no such file or folder.
    """
    for pack in packs:
        for role in ("good_held_out_prompts", "bad_held_out_prompts"):
            wanted = held_out_specification(settings, pack, role)
            if wanted is not None and is_missing(wanted.dataset):
                raise PromptError(
                    f"{role}: there is no file or folder {wanted.dataset}; check the path, or use --confirm false."
                )
    for pack in kept_packs(settings, packs):
        held_out = pack.prompts.get("held_out")
        if held_out is not None and is_missing(held_out.dataset):
            raise PromptError(
                f"keep {pack.name} held_out: there is no file or folder {held_out.dataset}; check the path, or use "
                "--confirm false."
            )


def _is_changed(settings: Settings, role: str) -> bool:
    return bool(getattr(settings, role) != Settings.model_fields[role].default)


def load_prompts(settings: Settings, packs: Iterable[Pack]) -> PromptSets:
    """Read the prompts of these behaviours and report evaluation prompts that also stand in a training set."""
    packs = tuple(packs)
    behaviors = tuple(_load_behavior(settings, pack) for pack in packs)
    read = [(pack, load_kept(settings, pack, "evaluation")) for pack in kept_packs(settings, packs)]
    return PromptSets(behaviors, tuple(Kept(pack, prompts) for pack, prompts in read if prompts is not None))


def _load_behavior(settings: Settings, pack: Pack) -> Behavior:
    sets = {
        role: load_prompt_set(role, specification(settings, pack, role), settings.system_prompt)
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
    return Behavior(pack, *sets.values())
