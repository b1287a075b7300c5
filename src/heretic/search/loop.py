"""The search loop: ask, build, measure, tell."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import optuna

from heretic.common.errors import HereticError, SearchOutOfMemoryError
from heretic.engine.measurement import MEMORY_RAN_OUT, Engine
from heretic.models.memory import USAGE, memory_text, memory_use
from heretic.observability.events import BatchMeasured, SearchFinished, SearchStarted, TrialFinished, emit
from heretic.results.front import least, pareto_front
from heretic.results.gate import Gate
from heretic.results.objective import BOTH_NUMBERS, Objective
from heretic.results.trial import TrialRecord, TrialState
from heretic.search.heartbeat import Heartbeat
from heretic.search.interruption import InterruptGuard
from heretic.search.space import SearchSpace, readable_parameters
from heretic.search.storage import storage_errors, stored_records, tell

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


def make_sampler(seed: int | None, n_startup_trials: int, finished: int) -> optuna.samplers.TPESampler:
    """Independent TPE, of one or several objectives.

    Args:
        seed: Makes a run repeatable.
        n_startup_trials: Random trials before TPE begins.
        finished: Trials that a resumed study already has: it must not draw the same random numbers again.
    """
    seed = None if seed is None else seed + finished
    return optuna.samplers.TPESampler(n_startup_trials=n_startup_trials, multivariate=False, seed=seed)


def search(
    study: optuna.Study,
    url: str,
    space: SearchSpace,
    engine: Engine,
    n_trials: int,
    objective: Objective = BOTH_NUMBERS,
    heartbeat: Heartbeat | None = None,
) -> SearchResult:
    """Run trials until the study has `n_trials` measured ones, stopped ones included.

    Args:
        study: From `open_study`.
        url: Its storage, for messages.
        space: Where plans come from.
        engine: Measures plans, so many at once as it likes best.
        n_trials: Measured trials wanted in all.
        objective: What the study minimises.
        heartbeat: Tells whoever watches from outside how the run is.

    Raises:
        SearchOutOfMemoryError: Three trials in a row failed for lack of memory.
        HereticError: Ten trials in a row failed; the message has the last reason.
        StudyError: The storage failed.
    """
    with storage_errors(url):
        records = stored_records(study)
    started = time.perf_counter()
    emit(_started(records, n_trials))
    if heartbeat is not None:
        heartbeat.search_started(_complete(records), n_trials)
    failures = 0
    with InterruptGuard() as guard:
        while _complete(records) < n_trials and not guard.requested:
            count = min(engine.candidates, n_trials - _complete(records))
            batch_started, tokens = time.perf_counter(), USAGE.tokens
            for record in _run_trials(study, url, space, engine, objective, Gate.behind(records, objective), count):
                records.append(record)
                _report(record, records, n_trials)
                failures = failures + 1 if record.state is TrialState.FAILED else 0
            batch = _batch(count, time.perf_counter() - batch_started, USAGE.tokens - tokens)
            emit(batch)
            if heartbeat is not None:
                heartbeat.batch_measured(_complete(records), engine.candidates, batch)
            _give_up_if_hopeless(records, failures)
    # A search whose last trial was running anyway is finished, not interrupted.
    interrupted = guard.requested and _complete(records) < n_trials
    if heartbeat is not None:
        heartbeat.search_ended(interrupted)
    emit(SearchFinished(_complete(records), time.perf_counter() - started, interrupted))
    return SearchResult(tuple(records), interrupted, guard.terminated)


def _give_up_if_hopeless(records: Sequence[TrialRecord], failures: int) -> None:
    """End a search whose last `failures` trials failed, once these are too many."""
    last = records[-MEMORY_FAILURES_IN_A_ROW:]
    if failures >= MEMORY_FAILURES_IN_A_ROW and all(record.reason == MEMORY_RAN_OUT for record in last):
        raise SearchOutOfMemoryError(
            f"Memory ran out in {len(last)} trials in a row, with one prompt at a time ({memory_text(memory_use())}); "
            "end other programs that use it, use --quantization bnb_4bit, fewer --kl-tokens, or a larger device."
        )
    if failures >= FAILURES_IN_A_ROW:
        raise HereticError(
            f"{failures} trials in a row failed, the last because {records[-1].reason}; finished trials are kept, so "
            "run the same command again once that is mended (--log-file FILE writes down where it happens)."
        )


def _complete(records: Sequence[TrialRecord]) -> int:
    return sum(record.state is not TrialState.FAILED for record in records)


def _started(records: Sequence[TrialRecord], n_trials: int) -> SearchStarted:
    front = pareto_front(records)
    states = dict(Counter(record.state.value for record in records))
    if not front:
        return SearchStarted(0, n_trials, states=states)
    lowest = min(record.kl.value for record in front)
    return SearchStarted(_complete(records), n_trials, least(front).scores, states, lowest)


def _batch(trials: int, seconds: float, tokens: int) -> BatchMeasured:
    return BatchMeasured(trials, seconds, tokens, tokens / seconds if seconds > 0 else 0.0, memory_use())


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
        plans = [space.suggest(trial) for trial in trials]
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
        for trial, record in zip(trials, records, strict=True):
            tell(study, trial, record, objective)
    return records


def _report(record: TrialRecord, records: list[TrialRecord], n_trials: int) -> None:
    emit(
        TrialFinished(
            number=record.number,
            n_trials=n_trials,
            scores=record.scores,
            seconds=record.seconds,
            on_front=any(record.number == other.number for other in pareto_front(records)),
            reason=record.reason,
            dominated=record.state in (TrialState.DOMINATED, TrialState.PRUNED),
            parameters=readable_parameters(record.plan),
        )
    )
