"""Records of trials in the study: read, and written when a trial ends, by its own run or by one that cleans up."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from heretic.common.errors import VersionSkewError, first_line
from heretic.common.redaction import without_secrets
from heretic.results import reading
from heretic.results.objective import BOTH_NUMBERS, Objective
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord, TrialState
from heretic.results.words import plural
from heretic.search.private_api import end_trial, enqueued_parameters, set_constraints, unfinished_trial

RECORD_ATTRIBUTE = "record"
RETRIED_ATTRIBUTE = "retried"
"""User attribute of a trial that repeats one whose run died: that one's number."""
WORKER = "worker"
"""In a stored record, besides the record itself: who measured it, where several may."""
NAMED = 5
"""Trials that a sentence names."""
GIVEN_UP = "its worker was taken for dead, and its plan is measured again"


def stored_records(study: optuna.Study) -> list[TrialRecord]:
    """Records of all finished trials, by number; see `records_of`."""
    return records_of(study.get_trials(deepcopy=False))


def records_of(trials: Iterable[FrozenTrial]) -> list[TrialRecord]:
    """Records of those trials that are finished and have one.

    One that cannot be read, or measured something else than most, stands there as failed, with that as the reason.
    """
    records = [_read(trial) for trial in trials if trial.state.is_finished() and RECORD_ATTRIBUTE in trial.user_attrs]
    usual = Counter(_measured(record) for record in records if record.scores is not None).most_common(1)
    return [
        TrialRecord.unreadable(record.number, f"Trial {record.shown} measured other things than most of its study do.")
        if record.scores is not None and _measured(record) != usual[0][0]
        else record
        for record in records
    ]


def _read(trial: FrozenTrial) -> TrialRecord:
    try:
        record = TrialRecord.from_json(trial.user_attrs[RECORD_ATTRIBUTE], trial.number)
    except VersionSkewError as error:
        return TrialRecord.unreadable(trial.number, str(error))
    if trial.state is OptunaState.FAIL and not record.is_failed:
        # It came between the two writes of `tell`.
        return replace(record, scores=None, state=TrialState.FAILED, reason=GIVEN_UP)
    return record


def _measured(record: TrialRecord) -> tuple[tuple[str, str], ...]:
    """Names and units of what was measured."""
    return tuple((score.name, score.unit) for score in record.measured)


def unreadable_text(records: Iterable[TrialRecord]) -> str:
    """A sentence on the trials that could not be read; empty where all could."""
    missing = [record for record in records if not record.is_read]
    if not missing:
        return ""
    named = ", ".join(str(record.shown) for record in missing[:NAMED]) + (" and others" if missing[NAMED:] else "")
    counted = plural(len(missing), "stored trial")
    return f"{counted} ({named}) cannot be read and count as failed. {missing[0].reason}"


def measured_by(trial: FrozenTrial) -> str:
    """Who measured a trial; empty where one run had the study to itself."""
    stored = trial.user_attrs.get(RECORD_ATTRIBUTE)
    worker = stored.get(WORKER) if isinstance(stored, dict) else None
    return worker if isinstance(worker, str) else ""


def tell(
    study: optuna.Study,
    trial: optuna.Trial,
    record: TrialRecord,
    objective: Objective = BOTH_NUMBERS,
    worker: str = "",
) -> TrialRecord | None:
    """Store a record and end its trial; returns what was stored, or None where another worker ended it before.

    A record is stored before its trial is ended, so that a run that dies in between loses nothing. It is therefore
    looked at before: one whose numbers Optuna would refuse is stored as a failed one.

    A pruned one gets what was seen as an intermediate value, at the step that it reached: 0 where its divergence alone
    decided, else the number of answers known. The sampler ranks pruned trials by their last step, so those that came
    far are preferred.
    """
    try:
        values = (
            []
            if record.scores is None
            else [float(reading.number(value, "a value")) for value in objective.values(record.scores)]
        )
        if values and len(values) != objective.count:
            raise ValueError(f"{len(values)} values were measured, and the study minimises {objective.count}")
    except (ValueError, ArithmeticError) as error:
        record = replace(
            record, scores=None, state=TrialState.FAILED, reason=f"it cannot be told ({first_line(error)})"
        )
    stored = record.to_json() | ({WORKER: worker} if worker else {})
    try:
        # A reason may quote what a plug-in or a driver said.
        trial.set_user_attr(RECORD_ATTRIBUTE, without_secrets(stored))
        if record.scores is not None and (bounds := broken(record.scores)):
            set_constraints(study, trial, bounds)
        if record.scores is not None and record.state is TrialState.PRUNED:
            trial.report(values[0], step=sum(score.answers.answered or 0 for score in record.behaviors))
    except UpdateFinishedTrialError:
        return None
    if record.scores is None:
        return record if end_trial(study, trial, OptunaState.FAIL) else None
    state = OptunaState.PRUNED if record.state is TrialState.PRUNED else OptunaState.COMPLETE
    return record if end_trial(study, trial, state, values) else None


def broken(scores: Scores) -> list[float]:
    """By how much each bound on what has to stay is broken; 0 or less where it is not."""
    return [score.excess for score in scores.kept if score.excess is not None]


def end_left_over(study: optuna.Study, trial: FrozenTrial, objective: Objective) -> None:
    """End a trial whose run died."""
    record = _read(trial) if RECORD_ATTRIBUTE in trial.user_attrs else None
    if record is not None and record.is_read:
        # Killed between the two writes of `tell`.
        tell(study, unfinished_trial(study, trial), record, objective, measured_by(trial))
        return
    try_again(study, trial)


def try_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Fail a trial whose run died while it was measured, and enqueue it again, once: the run may have died of it.

    Does nothing where it has ended meanwhile.
    """
    if not end_trial(study, unfinished_trial(study, trial), OptunaState.FAIL):
        return
    parameters = {**(enqueued_parameters(trial) or {}), **trial.params}
    if parameters and RETRIED_ATTRIBUTE not in trial.user_attrs:
        study.enqueue_trial(parameters, user_attrs={**trial.user_attrs, RETRIED_ATTRIBUTE: trial.number})
