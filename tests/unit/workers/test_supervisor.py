"""Workers that die, differ or fail, without any process: what becomes of their batches, and who takes their place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from optuna.trial import TrialState as OptunaState
from tests.unit.search.studies import IDENTITY, PLAN, SPACE, record, url_of

from heretic.common.errors import HereticError, ModelError
from heretic.engine.measurement import Measurement
from heretic.observability.events import (
    BatchMeasured,
    Event,
    MemoryRanOut,
    TrialFinished,
    Warned,
    WorkerReady,
    subscribed,
)
from heretic.results.gate import Gate
from heretic.results.score import Score
from heretic.results.trial import TrialState
from heretic.search.crew import Batch, Measured
from heretic.search.heartbeat import Heartbeat
from heretic.search.loop import search
from heretic.search.pulse import Member
from heretic.search.sampler import make_sampler
from heretic.search.status import StudyReader
from heretic.search.storage import open_study
from heretic.workers.supervisor import Supervisor, WorkerDied
from heretic.workers.worker import Ready, Report, differences

BASELINE = (Score("refusals", 50, 100, 50.0),)
Do = Callable[[], Report]


def nothing(_name: str, _batch: Batch | None) -> None:
    """A fault that never comes."""


@dataclass
class FakeCluster:
    """Calls end in the order in which they were made, one at a time.

    Attributes:
        fault: Raises where a worker is to fail; with the batch, or None while it prepares.
        baselines: What workers measure of the original model, by name; BASELINE where none stands.
    """

    fault: Callable[[str, Batch | None], None] = nothing
    baselines: dict[str, tuple[Score, ...]] = field(default_factory=dict)
    candidates: int = 2
    hired: list[str] = field(default_factory=list)
    dismissed: list[str] = field(default_factory=list)
    given: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    calls: dict[int, Do] = field(default_factory=dict)
    begun: int = 0

    def _call(self, do: Do) -> int:
        self.begun += 1
        self.calls[self.begun] = do
        return self.begun

    def hire(self, name: str) -> tuple[str, int]:
        self.hired.append(name)

        def prepare() -> Report:
            self.fault(name, None)
            member = Member(name, host="there", device="cpu", candidates=self.candidates)
            return Report(Ready(member, self.baselines.get(name, BASELINE), 1.0), ())

        return name, self._call(prepare)

    def measure(self, worker: str, batch: Batch) -> int:
        self.given.append((worker, batch.numbers))

        def measure() -> Report:
            self.fault(worker, batch)
            done = tuple(
                Measurement(record(number, 50 - number % 40, 0.01 * number).scores, TrialState.COMPLETE)
                for number in batch.numbers
            )
            return Report(Measured(batch, done, 1.0, 100, {}, self.candidates, worker), (Warned("it is hot"),))

        return self._call(measure)

    def wait(self, awaited: Sequence[int], seconds: float) -> list[int]:
        return sorted(awaited)[:1]

    def result(self, awaited: int) -> Report:
        return self.calls.pop(awaited)()

    def dismiss(self, worker: str) -> None:
        self.dismissed.append(worker)


def dies_of(*numbers: int, workers: int = 10**6) -> Callable[[str, Batch | None], None]:
    """Whoever measures one of these trials dies, at most so many times in all."""
    left = [workers]

    def fault(_name: str, batch: Batch | None) -> None:
        if batch is not None and set(numbers) & set(batch.numbers) and left[0]:
            left[0] -= 1
            raise WorkerDied("killed")

    return fault


def batch_of(*numbers: int) -> Batch:
    return Batch(numbers, (PLAN,) * len(numbers), Gate())


def ready(cluster: FakeCluster, count: int) -> Supervisor:
    supervisor = Supervisor(cluster, count, BASELINE)
    while cluster.calls:
        assert supervisor.finished() == []
    return supervisor


def searched(tmp_path: Path, cluster: FakeCluster, count: int, n_trials: int) -> tuple[list[Event], list[OptunaState]]:
    """A search by workers in a study of its own: its events, and the states of its trials."""
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    study.sampler = make_sampler(0, 4, 0)
    seen: list[Event] = []
    with subscribed(seen.append):
        result = search(study, url, SPACE, Supervisor(cluster, count, BASELINE), n_trials)
    assert result.complete == n_trials
    return seen, [trial.state for trial in study.trials]


def test_a_search_gives_every_free_worker_a_batch_and_asks_for_no_more_than_wanted(tmp_path: Path) -> None:
    cluster = FakeCluster()
    seen, states = searched(tmp_path, cluster, 3, 11)
    assert states == [OptunaState.COMPLETE] * 11
    assert [numbers for _worker, numbers in cluster.given[:3]] == [(0, 1), (2, 3), (4, 5)]
    assert [worker for worker, _numbers in cluster.given[:3]] == ["worker 1", "worker 2", "worker 3"]
    # The last batch is what is missing.
    assert cluster.given[-1][1] == (10,)
    told = [event for event in seen if isinstance(event, TrialFinished)]
    assert [event.record.number for event in told] == list(range(11))
    assert {event.worker for event in told} == {"worker 1", "worker 2", "worker 3"}
    assert not any(event.of_another for event in told)
    assert [event.worker for event in seen if isinstance(event, WorkerReady)] == ["worker 1", "worker 2", "worker 3"]
    assert Warned("worker 1: it is hot") in seen
    assert {event.worker for event in seen if isinstance(event, BatchMeasured)} == {event.worker for event in told}


def test_the_batch_of_a_dead_worker_goes_to_others_and_another_takes_its_place(tmp_path: Path) -> None:
    cluster = FakeCluster(dies_of(2, workers=1))
    seen, states = searched(tmp_path, cluster, 2, 8)
    assert states == [OptunaState.COMPLETE] * 8
    assert cluster.hired == ["worker 1", "worker 2", "worker 2"]
    assert cluster.dismissed == ["worker 2"]
    # Each plan by itself, as any of them may be the reason.
    assert [numbers for _worker, numbers in cluster.given].count((2, 3)) == 1
    assert {(2,), (3,)} <= {numbers for _worker, numbers in cluster.given}
    (said,) = [event.message for event in seen if isinstance(event, Warned) and "died" in event.message]
    assert said == "worker 2 died (killed); another one takes its place, 2 plans of its batch are measured again."


def test_a_plan_that_two_workers_die_of_is_failed_and_those_beside_it_are_measured(tmp_path: Path) -> None:
    cluster = FakeCluster(dies_of(3))
    seen, states = searched(tmp_path, cluster, 2, 8)
    assert [number for number, state in enumerate(states) if state is OptunaState.FAIL] == [3]
    assert states.count(OptunaState.COMPLETE) == 8
    (failed,) = [event.record for event in seen if isinstance(event, TrialFinished) and event.record.is_failed]
    assert failed.reason == "2 workers died while they measured it"
    assert len(cluster.hired) == 2 + 2


def test_a_worker_that_measures_another_original_is_left_out_with_the_figures() -> None:
    cluster = FakeCluster(baselines={"worker 1": (Score("refusals", 53, 100, 53.0),)})
    supervisor, seen = Supervisor(cluster, 2, BASELINE), list[Event]()
    with subscribed(seen.append):
        while cluster.calls:
            supervisor.finished()
    (warned,) = [event.message for event in seen if isinstance(event, Warned)]
    assert "refusals 53 instead of 50" in warned
    assert warned.startswith("worker 1 is left out")
    assert [member.worker for member in supervisor.members] == ["worker 2"]
    assert cluster.dismissed == ["worker 1"]


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        (Score("refusals", 52, 100, 52.0), False),
        (Score("refusals", 47, 100, 47.0), True),
        (Score("refusals", 1, 10, 49.0), False),
    ],
)
def test_a_few_answers_may_be_counted_differently(other: Score, differing: bool) -> None:
    here = (replace(BASELINE[0], n=other.n),)
    assert bool(differences(here, (other,))) is differing


def test_amounts_may_differ_by_a_share() -> None:
    words = (Score("words", 20.0, 40, 20.0, unit="words"),)
    assert differences(words, (replace(words[0], baseline=20.3),)) == []
    assert differences(words, (replace(words[0], baseline=21.0),)) == ["words 21 instead of 20"]


def test_where_nobody_is_left_the_search_ends_with_a_sentence() -> None:
    def broken(_name: str, batch: Batch | None) -> None:
        if batch is None:
            raise ModelError("The weights are gone.")

    cluster = FakeCluster(broken)
    supervisor = Supervisor(cluster, 2, BASELINE)
    while cluster.calls:
        supervisor.finished()
    with pytest.raises(HereticError, match=r"No worker is left .* because it cannot prepare: The weights are gone"):
        supervisor.finished()


def test_a_worker_that_dies_before_it_is_ready_is_tried_once_more() -> None:
    def dying(name: str, batch: Batch | None) -> None:
        if batch is None and name == "worker 1":
            raise WorkerDied("killed")

    cluster = FakeCluster(dying)
    supervisor = ready(cluster, 2)
    assert cluster.hired == ["worker 1", "worker 2", "worker 1"]
    assert [member.worker for member in supervisor.members] == ["worker 2"]


def test_an_error_with_a_sentence_of_its_own_ends_the_search() -> None:
    def failing(_name: str, batch: Batch | None) -> None:
        if batch is not None:
            raise ModelError("The original model's logits are not finite.")

    cluster = FakeCluster(failing)
    supervisor = ready(cluster, 1)
    supervisor.start(batch_of(0))
    with pytest.raises(ModelError, match="not finite"):
        supervisor.finished()


def test_a_worker_that_ran_out_of_memory_is_given_fewer_from_then_on_and_the_others_are_not() -> None:
    cluster = FakeCluster(candidates=8)
    supervisor = ready(cluster, 2)
    cluster.candidates = 4
    supervisor.start(batch_of(*range(8)))
    assert supervisor.free == 8
    supervisor.start(batch_of(8))
    cluster.candidates = 4
    (first,) = supervisor.finished()
    assert first.worker == "worker 1"
    assert supervisor.free == 4


def test_memory_that_ran_out_there_is_told_here() -> None:
    cluster = FakeCluster()
    supervisor = ready(cluster, 1)
    ran_out, seen = MemoryRanOut("measuring trial 1", {}), list[Event]()
    supervisor.start(batch_of(0))
    ((call, answer),) = cluster.calls.items()
    cluster.calls[call] = lambda: replace(answer(), events=(ran_out,))
    with subscribed(seen.append):
        supervisor.finished()
    assert seen == [ran_out]


def test_status_shows_each_worker_with_what_it_measures(tmp_path: Path) -> None:
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    heartbeat = Heartbeat(study, "demo", 16, 10)
    heartbeat.search_started(0, 10)
    cluster = FakeCluster()
    supervisor = ready(cluster, 2)
    supervisor.start(batch_of(0, 1))
    supervisor.finished()
    supervisor.start(batch_of(2, 3))
    heartbeat._pulse = replace(heartbeat._pulse, updated=0.0)
    heartbeat.hears(supervisor.members)
    with StudyReader(url, "heretic") as reader:
        status = reader.read()
    first, second = status.to_json()["workers"]
    assert (first["worker"], first["host"], first["device"]) == ("worker 1", "there", "cpu")
    assert (first["trials"], first["seconds_per_trial"], second["trials"]) == ([3, 4], 0.5, [])
    # One of two that take half a second a trial.
    assert status.remaining_seconds == pytest.approx(5.0)
