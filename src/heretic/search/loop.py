"""The search loop: ask, build, measure, tell."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna

from heretic.edits.plan import EditPlan
from heretic.errors import HereticError, TrialFailed
from heretic.evaluation.score import Score
from heretic.observability.events import SearchFinished, SearchStarted, TrialFinished, emit
from heretic.search.interruption import InterruptGuard
from heretic.search.pareto import pareto_front
from heretic.search.record import TrialRecord, TrialState
from heretic.search.space import SearchSpace, readable_parameters
from heretic.search.storage import storage_errors, stored_records, tell

Measure = Callable[[EditPlan, int], tuple[Score, ...]]
"""Measure one plan (trial number for events): scores in the order of the study's objectives."""

FAILURES_IN_A_ROW = 10
"""After this many failed trials in a row something is wrong with more than the trials."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What the loop ended with: all records of the study, and whether the user stopped it."""

    records: tuple[TrialRecord, ...]
    interrupted: bool

    @property
    def complete(self) -> int:
        """Number of complete trials."""
        return _complete(self.records)


def make_sampler(seed: int | None, n_startup_trials: int, finished: int) -> optuna.samplers.TPESampler:
    """Independent multi-objective TPE.

    Args:
        seed: Makes a run repeatable.
        n_startup_trials: Random trials before TPE begins.
        finished: Trials that a resumed study already has: it must not draw the same random numbers again.
    """
    seed = None if seed is None else seed + finished
    return optuna.samplers.TPESampler(n_startup_trials=n_startup_trials, multivariate=False, seed=seed)


def search(study: optuna.Study, url: str, space: SearchSpace, measure: Measure, n_trials: int) -> SearchResult:
    """Run trials until the study has `n_trials` complete ones.

    Args:
        study: From `open_study`.
        url: Its storage, for messages.
        space: Where plans come from.
        measure: Measures a plan; a TrialFailed that it raises fails that trial only.
        n_trials: Complete trials wanted in all.

    Raises:
        HereticError: Ten trials in a row failed; the message has the last reason.
        StudyError: The storage failed.
    """
    with storage_errors(url):
        records = stored_records(study)
    started = time.perf_counter()
    emit(_started(records, n_trials))
    failures = 0
    with InterruptGuard() as guard:
        while _complete(records) < n_trials and not guard.requested:
            record = _run_trial(study, url, space, measure)
            records.append(record)
            _report(record, records, n_trials)
            failures = failures + 1 if record.state is TrialState.FAILED else 0
            if failures >= FAILURES_IN_A_ROW:
                raise HereticError(
                    f"{failures} trials in a row failed, the last because {record.reason}; finished trials are kept, "
                    "so run the same command again once that is mended."
                )
    # A search whose last trial was running anyway is finished, not interrupted.
    interrupted = guard.requested and _complete(records) < n_trials
    emit(SearchFinished(_complete(records), time.perf_counter() - started, interrupted))
    return SearchResult(tuple(records), interrupted)


def _complete(records: Sequence[TrialRecord]) -> int:
    return sum(record.state is TrialState.COMPLETE for record in records)


def _started(records: Sequence[TrialRecord], n_trials: int) -> SearchStarted:
    front = pareto_front(records)
    if not front:
        return SearchStarted(0, n_trials)
    refusals, kl = front[0].score("refusals"), front[0].score("kl")
    return SearchStarted(_complete(records), n_trials, int(refusals.value), kl.value, refusals.n)


def _run_trial(study: optuna.Study, url: str, space: SearchSpace, measure: Measure) -> TrialRecord:
    with storage_errors(url):
        trial = study.ask()
        plan = space.suggest(trial)
    started = time.perf_counter()
    try:
        scores = measure(plan, trial.number)
        state, reason = TrialState.COMPLETE, ""
    except TrialFailed as error:
        scores, state, reason = (), TrialState.FAILED, str(error)
    record = TrialRecord(trial.number, plan, scores, state, reason, time.perf_counter() - started)
    with storage_errors(url):
        tell(study, trial, record)
    return record


def _report(record: TrialRecord, records: list[TrialRecord], n_trials: int) -> None:
    scores = {score.name: score for score in record.scores}
    refusals, kl = scores.get("refusals"), scores.get("kl")
    emit(
        TrialFinished(
            number=record.number,
            n_trials=n_trials,
            refusals=None if refusals is None else int(refusals.value),
            prompt_count=0 if refusals is None else refusals.n,
            kl=None if kl is None else kl.value,
            seconds=record.seconds,
            on_front=any(record.number == other.number for other in pareto_front(records)),
            reason=record.reason,
            parameters=readable_parameters(record.plan),
        )
    )
