"""The lead's side: who of the workers is free, what becomes of a dead one's batch, and who takes its place."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from heretic.common.errors import HereticError
from heretic.engine.measurement import failed
from heretic.observability.events import Warned, WorkerReady, emit
from heretic.results.score import Score
from heretic.results.words import plural
from heretic.search.crew import Batch, Measured
from heretic.search.pulse import Member
from heretic.workers.worker import Ready, Report, differences

WAIT_SECONDS = 0.5
"""How long is waited at a time: signals are heard in between."""
DEATHS = 2
"""A plan that so many workers died of is failed, and a worker that died so often before it was ready is given up."""


class WorkerDied(Exception):
    """The process of a worker is gone; the message says how, as far as that is known."""


class Cluster(Protocol):
    """Where workers run."""

    def hire(self, name: str) -> tuple[Any, Any]:
        """Start a worker, and have it prepare; its handle, and what it is waited for by."""

    def measure(self, worker: Any, batch: Batch) -> Any:
        """Have a worker measure; what it is waited for by."""

    def wait(self, awaited: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Those that have ended, waiting for the first, though at most so long."""

    def result(self, awaited: Any) -> Report:
        """What ended.

        Raises:
            WorkerDied: The worker is gone.
            HereticError: What the worker raised.
        """

    def dismiss(self, worker: Any) -> None:
        """End a worker."""


@dataclass
class _Worker:
    name: str
    handle: Any
    member: Member | None = None
    batch: Batch | None = None


class Supervisor:
    """A Crew whose workers run on a cluster.

    The batch of a worker that died goes to others, plan by plan, so that one that kills whoever measures it is told
    from those beside it.
    """

    def __init__(self, cluster: Cluster, count: int, baseline: tuple[Score, ...]) -> None:
        """Have workers start.

        Args:
            cluster: Where.
            count: How many.
            baseline: What the lead measured of the original model.
        """
        self._cluster, self._baseline = cluster, baseline
        self._workers: list[_Worker] = []
        self._awaited: dict[Any, _Worker] = {}
        self._again: deque[Batch] = deque()
        self._deaths: Counter[int] = Counter()
        self._early_deaths: Counter[str] = Counter()
        self._reason = ""
        for number in range(count):
            self._hire(f"worker {number + 1}")

    @property
    def free(self) -> int:
        """See Crew."""
        idle = [] if self._again else self._idle()
        return next((worker.member.candidates for worker in idle if worker.member is not None), 0)

    @property
    def members(self) -> tuple[Member, ...]:
        """See Crew."""
        return tuple(worker.member for worker in self._workers if worker.member is not None)

    def start(self, batch: Batch) -> None:
        """See Crew."""
        self._give(self._idle()[0], batch)

    def finished(self) -> Sequence[Measured]:
        """See Crew."""
        while self._again and self._idle():
            self._give(self._idle()[0], self._again.popleft())
        if not self._workers:
            raise HereticError(
                f"No worker is left that could measure, the last because {self._reason}; finished trials are kept, so "
                "run the same command again once that is mended, or with --workers 1."
            )
        ended = self._cluster.wait(list(self._awaited), WAIT_SECONDS)
        return [measured for awaited in ended for measured in self._ended(awaited, self._awaited.pop(awaited))]

    def _idle(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.member is not None and worker.batch is None]

    def _hire(self, name: str) -> None:
        handle, awaited = self._cluster.hire(name)
        worker = _Worker(name, handle)
        self._workers.append(worker)
        self._awaited[awaited] = worker

    def _give(self, worker: _Worker, batch: Batch) -> None:
        worker.batch = batch
        self._told(worker, trials=batch.numbers)
        self._awaited[self._cluster.measure(worker.handle, batch)] = worker

    def _ended(self, awaited: Any, worker: _Worker) -> list[Measured]:
        try:
            report = self._cluster.result(awaited)
        except WorkerDied as error:
            return self._died(worker, str(error))
        except HereticError as error:
            if worker.member is not None:
                raise
            self._leave_out(worker, f"it cannot prepare: {error}")
            return []
        for event in report.events:
            emit(replace(event, message=f"{worker.name}: {event.message}") if isinstance(event, Warned) else event)
        if isinstance(report.answer, Ready):
            self._is_ready(worker, report.answer)
            return []
        answer, worker.batch = report.answer, None
        each = answer.seconds / len(answer.batch.numbers)
        speed = answer.tokens / answer.seconds if answer.seconds > 0 else 0.0
        self._told(
            worker,
            trials=(),
            seconds_per_trial=each,
            tokens_per_second=speed,
            candidates=answer.candidates,
            memory=answer.memory,
        )
        return [answer]

    def _told(self, worker: _Worker, **changes: Any) -> None:
        if worker.member is not None:
            worker.member = replace(worker.member, updated=time.time(), **changes)

    def _is_ready(self, worker: _Worker, ready: Ready) -> None:
        if differing := differences(self._baseline, ready.baseline):
            there = ready.member
            self._leave_out(
                worker,
                f"on {there.device} of {there.host} it measured other numbers of the original model than this process "
                f"({', '.join(differing)})",
            )
            return
        worker.member = ready.member
        self._told(worker)
        emit(WorkerReady(worker.name, ready.member.host, ready.member.device, ready.member.candidates, ready.seconds))

    def _leave_out(self, worker: _Worker, reason: str) -> None:
        self._workers.remove(worker)
        self._cluster.dismiss(worker.handle)
        self._reason = reason
        emit(Warned(f"{worker.name} is left out, because {reason}"))

    def _died(self, worker: _Worker, how: str) -> list[Measured]:
        self._workers.remove(worker)
        self._cluster.dismiss(worker.handle)
        self._reason = f"{worker.name} died ({how})"
        was_ready, batch = worker.member is not None, worker.batch
        if not was_ready:
            self._early_deaths[worker.name] += 1
        given_up = self._early_deaths[worker.name] >= DEATHS
        if not given_up:
            self._hire(worker.name)
        again = "it is given up" if given_up else "another one takes its place"
        results = [] if batch is None else self._without_worker(batch)
        left = 0 if batch is None else len(batch.numbers) - len(results)
        plans = f", {plural(left, 'plan')} of its batch {'is' if left == 1 else 'are'} measured again" if left else ""
        emit(Warned(f"{worker.name} died ({how}); {again}{plans}."))
        return results

    def _without_worker(self, batch: Batch) -> list[Measured]:
        """What becomes of the plans that a worker died of: failed where they are known to be the reason."""
        self._deaths.update(batch.numbers)
        if len(batch.numbers) == 1 and self._deaths[batch.numbers[0]] >= DEATHS:
            reason = f"{DEATHS} workers died while they measured it"
            return [Measured(batch, (failed(reason),), 0.0, 0, {}, 1)]
        parts = zip(batch.numbers, batch.plans, strict=True)
        self._again.extend(Batch((number,), (plan,), batch.gate) for number, plan in parts)
        return []
