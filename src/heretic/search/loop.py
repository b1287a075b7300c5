"""The search loop: ask, build, measure, tell."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import optuna

from heretic.common.errors import HereticError, SearchOutOfMemoryError
from heretic.engine.engine import Engine
from heretic.engine.measurement import MEMORY_RAN_OUT
from heretic.models.memory import USAGE, memory_text, memory_use
from heretic.observability.events import BatchMeasured, SearchFinished, SearchStarted, TrialFinished, Warned, emit
from heretic.observability.steps import Step, step
from heretic.results.front import Front, Standing
from heretic.results.gate import Gate
from heretic.results.objective import BOTH_NUMBERS, Objective
from heretic.results.plan import EditPlan
from heretic.results.trial import TrialRecord
from heretic.results.words import best
from heretic.search.deadline import Deadline
from heretic.search.heartbeat import Heartbeat
from heretic.search.interruption import InterruptGuard
from heretic.search.private_api import parameters_together
from heretic.search.space import SearchSpace
from heretic.search.storage import storage_errors, stored_records, tell, unreadable_text

SEARCHING = "searching"
FAILURES_IN_A_ROW = 10
"""After this many failed trials in a row something is wrong with more than the trials."""
MEMORY_FAILURES_IN_A_ROW = 3
"""Likewise, where each needed more memory than there is although batches were made as small as they can be."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What the loop ended with: all records of the study, whether it was stopped, and whether by SIGTERM."""

    records: tuple[TrialRecord, ...]
    interrupted: bool
    terminated: bool = False

    @property
    def complete(self) -> int:
        """Number of measured trials, those included that were stopped because a finished one is better."""
        return _complete(self.records)


class _Trials:
    """The study's records, and what is asked about all of them after each one, kept as they come in.

    Attributes:
        records: All of them.
        front: Their Pareto front.
        complete: How many were measured, stopped ones included.
        failures: How many of the last failed, in a row.
    """

    def __init__(self, records: Sequence[TrialRecord]) -> None:
        self.records = list(records)
        self.front = Front.of(records)
        self.complete = _complete(records)
        self.failures = 0

    def add(self, record: TrialRecord) -> bool:
        """One more; whether it is on the front now."""
        self.records.append(record)
        failed = record.is_failed
        self.complete += not failed
        self.failures = self.failures + 1 if failed else 0
        before, self.front = self.front, self.front.with_trial(record)
        return self.front is not before

    def standing(self, n_trials: int) -> Standing:
        """Where the search for so many trials stands."""
        return Standing.of(self.front, self.complete, n_trials)


def search(
    study: optuna.Study,
    url: str,
    space: SearchSpace,
    engine: Engine,
    n_trials: int,
    objective: Objective = BOTH_NUMBERS,
    heartbeat: Heartbeat | None = None,
    deadline: Deadline | None = None,
) -> SearchResult:
    """Run trials until the study has `n_trials` measured ones, stopped ones included, or its time is over.

    Args:
        study: From `open_study`.
        url: Its storage, for messages.
        space: Where plans come from.
        engine: Measures plans, so many at once as it likes best.
        n_trials: Measured trials wanted in all.
        objective: What the study minimises.
        heartbeat: Tells whoever watches from outside how the run is.
        deadline: The time that there is; None for as much as it takes.

    Raises:
        SearchOutOfMemoryError: Three trials in a row failed for lack of memory.
        HereticError: Ten trials in a row failed; the message has the last reason.
        StudyError: The storage failed.
    """
    with storage_errors(url):
        trials = _Trials(stored_records(study))
    if unreadable := unreadable_text(trials.records):
        emit(Warned(unreadable))
    started = time.perf_counter()
    states = Counter(record.state.value for record in trials.records)
    emit(SearchStarted(trials.standing(n_trials), dict(states)))
    if heartbeat is not None:
        heartbeat.search_started(trials.complete, n_trials)
    with (
        InterruptGuard() as guard,
        _step(trials.standing(n_trials), deadline) as progress,
    ):
        while trials.complete < n_trials and not guard.requested and (deadline is None or deadline.allows):
            count = min(engine.candidates, n_trials - trials.complete)
            batch_started, tokens = time.perf_counter(), USAGE.tokens
            gate = Gate.behind(trials.front, objective)
            for record in _run_trials(study, url, space, engine, objective, gate, count):
                on_front = trials.add(record)
                emit(TrialFinished(record, trials.standing(n_trials), on_front))
            standing = trials.standing(n_trials)
            progress.reached(standing.finished, _best(standing))
            batch = _batch(count, time.perf_counter() - batch_started, USAGE.tokens - tokens)
            emit(batch)
            if deadline is not None:
                deadline.took(batch.seconds)
            if heartbeat is not None:
                heartbeat.batch_measured(trials.complete, engine.candidates, batch)
            _give_up_if_hopeless(trials)
    # A search whose last trial was running anyway is finished, not interrupted.
    interrupted = guard.requested and trials.complete < n_trials
    out_of_time = not interrupted and trials.complete < n_trials
    if heartbeat is not None:
        heartbeat.search_ended(interrupted)
    emit(SearchFinished(trials.complete, time.perf_counter() - started, interrupted, out_of_time))
    return SearchResult(tuple(trials.records), interrupted, guard.terminated)


def _step(standing: Standing, deadline: Deadline | None) -> AbstractContextManager[Step]:
    total, left = 0 if standing.is_open else standing.n_trials, None if deadline is None else lambda: deadline.left
    return step(SEARCHING, total, "trials", standing.finished, _best(standing), left)


def _best(standing: Standing) -> str:
    return "" if standing.best is None else best(standing.best.measured)


def _give_up_if_hopeless(trials: _Trials) -> None:
    """End a search once too many trials in a row failed."""
    failures, last = trials.failures, trials.records[-MEMORY_FAILURES_IN_A_ROW:]
    if failures >= MEMORY_FAILURES_IN_A_ROW and all(record.reason == MEMORY_RAN_OUT for record in last):
        raise SearchOutOfMemoryError(
            f"Memory ran out in {len(last)} trials in a row, with one prompt at a time ({memory_text(memory_use())}); "
            "end other programs that use it, use --quantization bnb_4bit, fewer --kl-tokens, or a larger device."
        )
    if failures >= FAILURES_IN_A_ROW:
        raise HereticError(
            f"{failures} trials in a row failed, the last because {last[-1].reason}; finished trials are kept, so "
            "run the same command again once that is mended (--log-file FILE writes down where it happens)."
        )


def _complete(records: Sequence[TrialRecord]) -> int:
    return sum(not record.is_failed for record in records)


def _batch(trials: int, seconds: float, tokens: int) -> BatchMeasured:
    return BatchMeasured(trials, seconds, tokens, tokens / seconds if seconds > 0 else 0.0, memory_use())


def _suggested(space: SearchSpace, trial: optuna.Trial) -> EditPlan:
    with parameters_together(trial):
        return space.suggest(trial)


def _run_trials(
    study: optuna.Study,
    url: str,
    space: SearchSpace,
    engine: Engine,
    objective: Objective,
    gate: Gate,
    count: int,
) -> list[TrialRecord]:
    with storage_errors(url):
        trials = [study.ask() for _ in range(count)]
        plans = [_suggested(space, trial) for trial in trials]
    started = time.perf_counter()
    numbers = [trial.number for trial in trials]
    measurements = engine.measure(plans, numbers, gate)
    # Candidates of one batch share its time.
    seconds = (time.perf_counter() - started) / count
    records = [
        TrialRecord(number, plan, own.scores, own.state, own.reason, seconds)
        for number, plan, own in zip(numbers, plans, measurements, strict=True)
    ]
    with storage_errors(url):
        return [tell(study, trial, record, objective) for trial, record in zip(trials, records, strict=True)]
