"""Which stored study a run goes on with, as far as that is known before a model is loaded."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from heretic.common.errors import SelectionError
from heretic.config import Settings
from heretic.observability.events import Warned, emit
from heretic.prompts.sets import PromptSets
from heretic.run.identity import early_aspects, with_stored_keep, with_stored_patterns
from heretic.search.storage import EARLIER_NAME, IDENTITY_ATTRIBUTE, Aspects, conflict_text
from heretic.search.stored_directions import stored_attributes
from heretic.search.told import read_pulse

ResolveConflict = Callable[[str, str, str], str | None]
"""Study, reason why it cannot be continued, name of the new study that would be made -> that name, or None to stop."""


def settle_study(
    settings: Settings, prompts: PromptSets, resolve_conflict: ResolveConflict
) -> tuple[Settings, PromptSets]:
    """Settings that name the run's study, and the prompts it looks at; one that measured something else never goes on.

    Raises:
        SelectionError: Somebody does not want another study.
    """
    earlier = _earlier(settings)
    if earlier is not None:
        found, reason, _mine = _compared(earlier, prompts)
        if reason is None:
            return found
        emit(Warned(f"{reason} This run has its own study, {settings.study}."))
    found, reason, mine = _compared(settings, prompts)
    if reason is None:
        return found
    name = instead(settings, settings.study, mine, reason, resolve_conflict)
    return settings.model_copy(update={"study_name": name}), prompts


def instead(settings: Settings, study: str, identity: Aspects, reason: str, resolve_conflict: ResolveConflict) -> str:
    """The study that a run has instead of one that it cannot go on with: always the same one, asked about once.

    Args:
        settings: The run's.
        study: The one that it cannot go on with.
        identity: What the run measures.
        reason: A sentence.
        resolve_conflict: Asks.

    Raises:
        SelectionError: Somebody does not want another study.
    """
    content = json.dumps([settings.model, identity], sort_keys=True, default=str)
    own = f"{study}-{hashlib.sha256(content.encode()).hexdigest()[:6]}"
    if stored_attributes(settings.storage, own):
        emit(Warned(f"{reason} This run goes on with its own study, {own}."))
        return own
    name = resolve_conflict(study, reason, own)
    if name is None:
        raise SelectionError("No study was opened; name another one with --study-name.")
    return name


def without_asking(_study: str, reason: str, own: str) -> str:
    """A ResolveConflict for runs without a terminal: the new study."""
    emit(Warned(f"{reason} This run starts the new study {own}."))
    return own


def _earlier(settings: Settings) -> Settings | None:
    """Settings that name the study of an earlier version, where this model has one and none of today's name."""
    if settings.study_name is not None or stored_attributes(settings.storage, settings.study):
        return None
    pulse, _problem = read_pulse(stored_attributes(settings.storage, EARLIER_NAME))
    if pulse is None or pulse.model != settings.model:
        return None
    return settings.model_copy(update={"study_name": EARLIER_NAME})


def _compared(settings: Settings, prompts: PromptSets) -> tuple[tuple[Settings, PromptSets], str | None, Aspects]:
    """Settings that name their study and the prompts it looks at, why it cannot be continued, and what was compared."""
    named = settings.model_copy(update={"study_name": settings.study})
    stored = stored_attributes(named.storage, named.study)
    named, looked_at = with_stored_keep(with_stored_patterns(named, stored), prompts, stored)
    mine = early_aspects(named, looked_at)
    return (named, looked_at), _difference(named.study, stored, mine), mine


def _difference(study: str, attributes: Mapping[str, Any], mine: Aspects) -> str | None:
    """Why a stored study cannot be continued, as far as it can be told; None where nothing speaks against it."""
    stored = attributes.get(IDENTITY_ATTRIBUTE)
    # Version 0.1.0 stored texts; those, and what is damaged, are compared when the study is opened.
    if not isinstance(stored, dict) or any(isinstance(value, str) for value in stored.values()):
        return None
    different = [name for name, part in mine.items() if stored.get(name, {}) != part]
    return conflict_text(study, different) if different else None
