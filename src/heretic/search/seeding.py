"""Plans that a search tries first: from profiles of earlier searches, or from whatever else has a good guess."""

from collections.abc import Sequence

import optuna

from heretic.results.plan import EditPlan
from heretic.search.space import SearchSpace
from heretic.search.storage import storage_errors

SOURCE_ATTRIBUTE = "source"
"""User attribute of a trial whose plan was enqueued: where that came from."""


def enqueue_plan(study: optuna.Study, space: SearchSpace, plan: EditPlan, source: str) -> None:
    """Have a study try this plan before it asks its sampler again.

    The trial counts like any other. Numbers outside the space are moved to its nearest edge; parameters that the plan
    leaves open (the direction's position where each layer has its own) are the sampler's. The normalisation is the
    space's.

    Args:
        study: From `open_study`.
        space: What the study's plans are suggested from.
        plan: What to try.
        source: Stored with the trial, see `has_plans_from`.
    """
    study.enqueue_trial(space.parameters(plan), user_attrs={SOURCE_ATTRIBUTE: source})


def has_plans_from(study: optuna.Study, source: str) -> bool:
    """Whether plans of this source were enqueued before, e.g. by the run that this one resumes."""
    return any(trial.user_attrs.get(SOURCE_ATTRIBUTE) == source for trial in study.get_trials(deepcopy=False))


def enqueue_once(study: optuna.Study, url: str, space: SearchSpace, plans: Sequence[EditPlan], source: str) -> bool:
    """Enqueue plans unless the study has finished trials or plans of this source already; whether it did.

    Raises:
        StudyError: The storage at `url` failed.
    """
    with storage_errors(url):
        if any(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)):
            return False
        if has_plans_from(study, source):
            return False
        for plan in plans:
            enqueue_plan(study, space, plan, source)
    return True
