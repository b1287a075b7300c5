"""Which parameters of the search mattered: functional ANOVA of every measured number, by Optuna.

Source: Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014. It
explains the variation over the whole search space. PED-ANOVA looks at the best tenth only, which of a hundred trials
are ten.
"""

import math
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

from heretic.report.data import Importance
from heretic.results.front import evenly_spread
from heretic.results.score import Score
from heretic.results.trial import TrialRecord
from heretic.results.words import joined, measured

FEWEST_TRIALS = 20
"""A space of about ten dimensions; what fewer trials say of it is chance."""
MOST_TRIALS = 300
"""Leaves of the forest are compared in pairs, so that time grows with the square of the trials."""


def importances(trials: Sequence[FrozenTrial], records: Sequence[TrialRecord]) -> tuple[tuple[Importance, ...], str]:
    """Importance of the parameters for every measured number, and a sentence on what is missing.

    Behaviours are only known of complete trials. A stopped trial's divergence counts: a mean over fewer positions.

    Args:
        trials: The study's, which know the parameters.
        records: What was measured.
    """
    by_number = {trial.number: trial for trial in trials}
    first = next((record.scores for record in records if record.scores is not None), None)
    if first is None:
        return (), "No trial was measured, so there is nothing to tell parameters' importance from."
    determined, few, constant = [], [], []
    for place, score in enumerate(first):
        label = "KL divergence" if score.is_divergence else measured(score)
        measured_points = [
            (by_number[record.number], tuple(record.measured)[place].value)
            for record in records
            if _counts(record, score)
            and record.number in by_number
            and len(tuple(record.measured)) == len(tuple(first))
        ]
        points = [(trial, value) for trial, value in measured_points if math.isfinite(value)]
        if len(points) < FEWEST_TRIALS:
            few.append(f"{label} ({len(points)})")
            continue
        looked_at = evenly_spread(points, MOST_TRIALS)
        shares = _shares(looked_at)
        if shares:
            determined.append(Importance(label, len(looked_at), len(points), shares))
        else:
            constant.append(label)
    sentences = []
    if few:
        sentences.append(
            f"Too few trials were measured to the end to tell which parameters matter for {joined(few)}; "
            f"it takes {FEWEST_TRIALS}."
        )
    if constant:
        sentences.append(f"No parameter explains any variation of {joined(constant)}.")
    return tuple(determined), " ".join(sentences)


def _counts(record: TrialRecord, score: Score) -> bool:
    return record.is_complete or (record.is_stopped and score.is_divergence)


def _shares(points: Sequence[tuple[FrozenTrial, float]]) -> tuple[tuple[str, float], ...]:
    """Shares of the variation, the largest first; none where there is none, or no parameter that all trials have."""
    if len({value for _trial, value in points}) < 2:
        return ()
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.create_trial(params=trial.params, distributions=trial.distributions, value=value)
            for trial, value in points
        ]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except RuntimeError:  # no tree of its forest saw two values
        return ()
    return tuple(sorted(shares.items(), key=lambda item: -item[1]))
