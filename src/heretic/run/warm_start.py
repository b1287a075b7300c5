"""Warm start: a search begins with plans that worked on models of the same family, and leaves its own best behind."""

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import optuna

import heretic
from heretic.common.file_names import expanded
from heretic.models.location import BUNDLED, DEMO, shown_model
from heretic.observability.events import ProfilesKept, WarmStarted, Warned, emit
from heretic.results.front import pareto_front
from heretic.results.trial import TrialRecord
from heretic.run.workbench import Workbench
from heretic.search.profile_store import PLANS_PER_MODEL, add_to_store, default_store, read_store
from heretic.search.profiles import Profile, ProfileError, family_of, fitting, plan_table, shipped_profiles
from heretic.search.seeding import enqueue_once

SOURCE = "warm start"
WORST_SHARE = 0.5
"""Of the original model's count: a plan that leaves more than this is no good start."""
WORST_KL = 0.5
"""Nats: likewise."""


def warm_start(bench: Workbench, study: optuna.Study) -> None:
    """Enqueue the profiles that fit best, the user's own first. Emits WarmStarted.

    Does nothing where the settings turn it off, and where the study has trials already.

    Raises:
        StudyError: The study's storage failed.
    """
    settings = bench.settings
    wanted = min(settings.warm_start_n_trials, settings.wanted_trials)
    if not settings.use_warm_start_params or not wanted or not counts_refusals(bench):
        return
    family, normalization = model_family(bench), bench.space.normalization
    from_user = fitting(_user_profiles(bench), family, settings.goal, normalization)[:wanted]
    profiles = shipped_profiles(family) if settings.use_shipped_profiles else ()
    # Those of a family without a profile of its own are filed under another name.
    shipped = (
        fitting(profiles, profiles[0].family, settings.goal, normalization)[: wanted - len(from_user)]
        if profiles
        else ()
    )
    plans = [profile.edit_plan(normalization) for profile in (*from_user, *shipped)]
    if plans and enqueue_once(study, settings.storage, bench.space, plans, SOURCE):
        emit(WarmStarted(family, len(from_user), len(shipped)))


def remember(bench: Workbench, records: Sequence[TrialRecord]) -> None:
    """Add a finished study's plans near the knee of its front to the user's store. Emits ProfilesKept.

    A store that cannot be used is said, and costs nothing else.
    """
    if not bench.settings.use_warm_start_params or not counts_refusals(bench):
        return
    family = model_family(bench)
    profiles = [_profile(bench, family, record) for record in pareto_front(records) if _is_good(record)]
    best = fitting(profiles, family, bench.settings.goal, bench.space.normalization)[:PLANS_PER_MODEL]
    if not best:
        return
    try:
        path = store_path(bench)
        added = add_to_store(path, best)
    except ProfileError as error:
        emit(Warned(_left_alone(bench, error)))
        return
    if added:
        emit(ProfilesKept(str(path), family, added))


def counts_refusals(bench: Workbench) -> bool:
    """Whether refusal is the one behaviour: profiles are plans for it, and say nothing of others."""
    return len(bench.behaviors) == 1 and bench.behaviors[0].baseline.counts_refusals


def model_family(bench: Workbench) -> str:
    """The family of the model, by its configuration. The toy model is its own: nothing carries over from it."""
    if bench.loaded.name in BUNDLED:
        return DEMO
    config = bench.loaded.model.config
    return family_of((config.model_type or "", config.get_text_config().model_type or ""), config.architectures or ())


def store_path(bench: Workbench) -> Path:
    """The user's store.

    Raises:
        ProfileError: There is no home folder.
    """
    named = bench.settings.profile_store
    return default_store(os.environ) if named is None else expanded(named)


def _user_profiles(bench: Workbench) -> tuple[Profile, ...]:
    try:
        return read_store(store_path(bench))
    except ProfileError as error:
        emit(Warned(_left_alone(bench, error)))
        return ()


def _left_alone(bench: Workbench, error: ProfileError) -> str:
    try:
        place = f"The profile store {store_path(bench)}"
    except ProfileError:
        place = "The profile store"
    return f"{place} is left alone, because {error}; mend or move it, or name another --profile-store."


def _is_good(record: TrialRecord) -> bool:
    (behavior,) = record.behaviors
    return behavior.value <= WORST_SHARE * behavior.baseline and record.kl.value <= WORST_KL


def _profile(bench: Workbench, family: str, record: TrialRecord) -> Profile:
    (behavior,), kl = record.behaviors, record.kl
    return Profile(
        family=family,
        goal=bench.settings.goal,
        normalization=record.plan.normalization,
        model=shown_model(bench.loaded.name),
        layers=bench.runner.layout.layer_count,
        prompts=behavior.n,
        refusals_before=behavior.baseline_refusals,
        refusals_after=behavior.refusals,
        kl=round(kl.value, 6),
        kl_mode=kl.divergence.mode or None,
        date=f"{datetime.now(timezone.utc):%Y-%m-%d}",
        heretic=heretic.__version__,
        plan=plan_table(record.plan),
    )
