"""The search loop: ask, build, measure, tell."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import optuna

from heretic.common.errors import HereticError, SearchOutOfMemoryError
from heretic.engine.measurement import MEMORY_RAN_OUT
from heretic.models.memory import memory_text, memory_use
from heretic.observability.events import BatchMeasured, SearchFinished, SearchStarted, TrialFinished, Warned, emit
from heretic.observability.steps import Step, step
from heretic.results.front import Front, Standing
from heretic.results.gate import Gate
from heretic.results.objective import BOTH_NUMBERS, Objective
from heretic.results.plan import EditPlan
from heretic.results.trial import TrialRecord
from heretic.results.words import best, plural
from heretic.search.crew import Batch, Crew, Measured
from heretic.search.deadline import Deadline
from heretic.search.heartbeat import Heartbeat
from heretic.search.interruption import InterruptGuard
from heretic.search.private_api import parameters_together
from heretic.search.records import stored_records, tell, unreadable_text
from heretic.search.space import SearchSpace
from heretic.search.storage import storage_errors
from heretic.search.workers import Workers

SEARCHING = "searching"
WAITING_SECONDS = 1.0
"""How often it is looked whether others have measured the last trials."""
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
        numbers: Theirs.
        front: Their Pareto front.
        complete: How many were measured, stopped ones included.
        own: The same without those that others measure meanwhile.
        failures: Those of this run's last that failed, in a row.
    """

    def __init__(self, records: Sequence[TrialRecord]) -> None:
        self.records = list(records)
        self.numbers = {record.number for record in records}
        self.front = Front.of(records)
        self.complete = self.own = _complete(records)
        self.failures: list[TrialRecord] = []

    def add(self, record: TrialRecord, of_another: bool = False) -> bool:
        """One more; whether it is on the front now."""
        self.records.append(record)
        self.numbers.add(record.number)
        self.complete += not record.is_failed
        if not of_another:
            self.own += not record.is_failed
            self.failures = [*self.failures, record] if record.is_failed else []
        before, self.front = self.front, self.front.with_trial(record)
        return self.front is not before

    def tell(self, records: Sequence[TrialRecord], n_trials: int, worker: str) -> None:
        """More of this run's, measured by this one of its workers. Emits TrialFinished for each."""
        for record in records:
            on_front = self.add(record)
            emit(TrialFinished(record, self.standing(n_trials), on_front, worker))

    def in_order(self) -> tuple[TrialRecord, ...]:
        """By number: others' come in between."""
        return tuple(sorted(self.records, key=lambda record: record.number))

    def standing(self, n_trials: int) -> Standing:
        """Where the search for so many trials stands."""
        return Standing.of(self.front, self.complete, n_trials)


def search(
    study: optuna.Study,
    url: str,
    space: SearchSpace,
    crew: Crew,
    n_trials: int,
    objective: Objective = BOTH_NUMBERS,
    heartbeat: Heartbeat | None = None,
    deadline: Deadline | None = None,
    workers: Workers | None = None,
) -> SearchResult:
    """Run trials until the study has `n_trials` measured ones, stopped ones included, or its time is over.

    Args:
        study: From `open_study`.
        url: Its storage, for messages.
        space: Where plans come from.
        crew: Measures plans, so many at once as it likes best.
        n_trials: Measured trials wanted in all.
        objective: What the study minimises.
        heartbeat: Tells whoever watches from outside how the run is.
        deadline: The time that there is; None for as much as it takes.
        workers: Who else works on the study; None where nobody can.

    Raises:
        SearchOutOfMemoryError: Three trials in a row failed for lack of memory.
        HereticError: Ten trials in a row failed; the message has the last reason.
        StudyError: The storage failed.
    """
    trials, started = _stored(study, url, n_trials), time.perf_counter()
    if heartbeat is not None:
        heartbeat.search_started(trials.complete, n_trials)
    running = _Running(study, url, space, objective, workers)
    with InterruptGuard() as guard, _step(trials.standing(n_trials), deadline) as progress:
        while True:
            has_time = not guard.requested and (deadline is None or deadline.allows)
            asks = has_time and trials.complete + len(running.trials) < n_trials
            if not asks and not running.trials:
                break
            if asks and crew.free:
                if running.begin(crew, trials, n_trials):
                    continue
                if not running.trials:
                    _wait(trials, n_trials, progress)
                    continue
            for measured in _finished(crew, heartbeat):
                batch = running.end(measured, trials, n_trials)
                progress.reached(trials.complete, _best(trials.standing(n_trials)))
                emit(batch)
                if deadline is not None:
                    deadline.took(batch.seconds)
                if heartbeat is not None:
                    heartbeat.batch_measured(trials.own, measured.candidates, batch, tuple(running.trials))
                _give_up_if_hopeless(trials)
    # A search whose last trial was running anyway is finished, not interrupted.
    interrupted = (is_short := trials.complete < n_trials) and guard.requested
    if heartbeat is not None:
        heartbeat.search_ended(interrupted)
    emit(SearchFinished(trials.complete, time.perf_counter() - started, interrupted, is_short and not interrupted))
    return SearchResult(trials.in_order(), interrupted, guard.terminated)


def _stored(study: optuna.Study, url: str, n_trials: int) -> _Trials:
    """The trials that the study has already. Emits SearchStarted."""
    with storage_errors(url):
        trials = _Trials(stored_records(study))
    if unreadable := unreadable_text(trials.records):
        emit(Warned(unreadable))
    states = Counter(record.state.value for record in trials.records)
    emit(SearchStarted(trials.standing(n_trials), dict(states)))
    return trials


def _finished(crew: Crew, heartbeat: Heartbeat | None) -> Sequence[Measured]:
    if heartbeat is not None:
        heartbeat.hears(crew.members)
    return crew.finished()


def _wait(trials: _Trials, n_trials: int, progress: Step) -> None:
    """Let other workers measure, where the last trials are theirs."""
    if trials.complete < n_trials:
        progress.reached(trials.complete, "waiting for the trials of other workers")
        time.sleep(WAITING_SECONDS)


def _step(standing: Standing, deadline: Deadline | None) -> AbstractContextManager[Step]:
    total, left = 0 if standing.is_open else standing.n_trials, None if deadline is None else lambda: deadline.left
    return step(SEARCHING, total, "trials", standing.finished, _best(standing), left)


def _best(standing: Standing) -> str:
    return "" if standing.best is None else best(standing.best.measured)


def _give_up_if_hopeless(trials: _Trials) -> None:
    """End a search once too many trials in a row failed."""
    failures, last = len(trials.failures), trials.failures[-MEMORY_FAILURES_IN_A_ROW:]
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


def _suggested(space: SearchSpace, trial: optuna.Trial) -> EditPlan:
    with parameters_together(trial):
        return space.suggest(trial)


class _Running:
    """Trials from when they are asked for until they are told.

    Attributes:
        trials: Those that are measured at the moment, by number.
    """

    def __init__(
        self, study: optuna.Study, url: str, space: SearchSpace, objective: Objective, workers: Workers | None
    ) -> None:
        self.trials: dict[int, optuna.Trial] = {}
        self._study, self._url, self._space, self._objective, self._workers = study, url, space, objective, workers
        # By trial, by the clock.
        self._begun: dict[int, float] = {}

    def begin(self, crew: Crew, known: _Trials, n_trials: int) -> bool:
        """Have one more batch measured; False where others may measure the last. Emits TrialFinished for theirs."""
        started = time.perf_counter()
        asked = self._ask(known, n_trials, crew.free)
        if not asked:
            return False
        with storage_errors(self._url):
            plans = tuple(_suggested(self._space, trial) for trial in asked)
        numbers = tuple(trial.number for trial in asked)
        self.trials.update(zip(numbers, asked, strict=True))
        self._begun.update(dict.fromkeys(numbers, started))
        crew.start(Batch(numbers, plans, Gate.behind(known.front, self._objective)))
        return True

    def _ask(self, known: _Trials, n_trials: int, most: int) -> list[optuna.Trial]:
        with storage_errors(self._url):
            if self._workers is None:
                return [self._study.ask() for _ in range(min(most, n_trials - known.complete - len(self.trials)))]
            asked = self._workers.ask(known.numbers, known.complete, n_trials, most, tuple(self.trials))
        for record, worker in asked.others:
            on_front = known.add(record, of_another=True)
            emit(TrialFinished(record, known.standing(n_trials), on_front, worker, of_another=True))
        return asked.trials

    def end(self, measured: Measured, known: _Trials, n_trials: int) -> BatchMeasured:
        """Tell what became of a batch. Emits TrialFinished for each of its trials."""
        batch = measured.batch
        # Candidates of one batch share its time.
        each = measured.seconds / len(batch.numbers)
        records = [
            TrialRecord(number, plan, own.scores, own.state, own.reason, each)
            for number, plan, own in zip(batch.numbers, batch.plans, measured.measurements, strict=True)
        ]
        own_name = "" if self._workers is None else self._workers.name
        worker = " ".join(filter(None, (own_name, measured.worker)))
        trials = [self.trials.pop(number) for number in batch.numbers]
        with storage_errors(self._url):
            told = [
                tell(self._study, trial, record, self._objective, worker)
                for trial, record in zip(trials, records, strict=True)
            ]
        _say_dropped([record for record, kept in zip(records, told, strict=True) if kept is None])
        known.tell([record for record in told if record is not None], n_trials, measured.worker)
        seconds = time.perf_counter() - min(self._begun.pop(number) for number in batch.numbers)
        tokens = measured.tokens
        rate = tokens / seconds if seconds > 0 else 0.0
        return BatchMeasured(len(records), seconds, tokens, rate, measured.memory, measured.worker)


def _say_dropped(records: Sequence[TrialRecord]) -> None:
    dropped = [str(record.shown) for record in records]
    if dropped:
        emit(
            Warned(
                f"This run was silent for so long that another one took it for dead: the results of "
                f"{plural(len(dropped), 'trial')} ({', '.join(dropped)}) are dropped, and the plans measured again."
            )
        )
