"""A worker's side, in this process: what it answers where its device has less memory than it was thought to have."""

from collections.abc import Callable, Sequence

import pytest
import torch
from tests.unit.engine.test_batched import make_bench, plans_for

from heretic.engine.factory import EngineOptions
from heretic.observability.events import Event, MemoryRanOut, subscribed
from heretic.results.gate import Gate
from heretic.results.plan import Normalization
from heretic.search.crew import Batch
from heretic.search.pulse import Member
from heretic.workers.supervisor import Supervisor
from heretic.workers.worker import Measurer, Ready, Report

ALL, LIMIT = 4, 2
"""Plans measured at once, by whoever has the memory, and by whoever has not."""


class Here:
    """A Cluster without processes: its workers measure in this one, as their calls are waited for."""

    def __init__(self, *workers: Measurer) -> None:
        self._free = list(workers)
        self._calls: dict[int, Callable[[], Report]] = {}
        self._begun = 0
        self.given: list[tuple[str, int]] = []

    def _call(self, do: Callable[[], Report]) -> int:
        self._begun += 1
        self._calls[self._begun] = do
        return self._begun

    def hire(self, name: str) -> tuple[Measurer, int]:
        worker = self._free.pop()
        return worker, self._call(lambda: Report(Ready(Member(name, candidates=ALL), (), 1.0), ()))

    def measure(self, worker: Measurer, batch: Batch) -> int:
        self.given.append((worker._name, len(batch.numbers)))
        return self._call(lambda: worker.measure(batch))

    def wait(self, awaited: Sequence[int], seconds: float) -> list[int]:
        return sorted(awaited)[:1]

    def result(self, awaited: int) -> Report:
        return self._calls.pop(awaited)()

    def dismiss(self, worker: Measurer) -> None:
        raise AssertionError("nobody died")


def worker(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> Measurer:
    """A worker with a loaded model that runs out of memory where more than so many plans are measured at once."""
    made = Measurer(name)
    engine = made._engine = make_bench("llama").batched(EngineOptions(ALL))
    job = engine._jobs.answers[0]
    run = job.run

    def limited(candidates: Sequence[object], *rest: object) -> None:
        if len(candidates) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        run(candidates, *rest)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(job, "run", limited)
    return made


def test_a_worker_that_runs_out_of_memory_measures_half_as_many_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rich, poor = (worker(name, limit, monkeypatch) for name, limit in (("worker 2", ALL), ("worker 1", LIMIT)))
    cluster, seen = Here(rich, poor), list[Event]()
    supervisor = Supervisor(cluster, 2, ())
    plans = (*plans_for(Normalization.NONE), plans_for(Normalization.NONE)[0])
    asked, measured = 0, list[int]()
    with subscribed(seen.append):
        while len(measured) < 3 * ALL + 2 * LIMIT:
            while supervisor.free:
                numbers = tuple(range(asked, asked + supervisor.free))
                asked += len(numbers)
                supervisor.start(Batch(numbers, plans[: len(numbers)], Gate()))
            for ended in supervisor.finished():
                assert all(own.scores is not None for own in ended.measurements)
                measured += ended.batch.numbers
    assert [count for name, count in cluster.given if name == "worker 1"][:3] == [ALL, LIMIT, LIMIT]
    assert {count for name, count in cluster.given if name == "worker 2"} == {ALL}
    assert sorted(measured) == sorted(set(measured))
    assert {member.worker: member.candidates for member in supervisor.members} == {"worker 1": LIMIT, "worker 2": ALL}
    assert [event.doing for event in seen if isinstance(event, MemoryRanOut)]
