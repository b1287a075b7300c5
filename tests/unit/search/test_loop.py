"""The loop ends when it should, keeps what it measured, and never measures the same plan twice."""

import itertools
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from tests.unit.search.studies import IDENTITY, SPACE, statements, url_of

from heretic.common.errors import HereticError, SearchOutOfMemoryError, Terminated, TrialFailed
from heretic.config.sections.search import OPEN_TRIALS
from heretic.engine.engine import Engine
from heretic.engine.measurement import MEMORY_RAN_OUT, Measurement
from heretic.observability.events import (
    Event,
    SearchFinished,
    SearchStarted,
    StepAdvanced,
    TrialFinished,
    Warned,
    subscribed,
)
from heretic.results import front
from heretic.results.front import Front
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialState
from heretic.search.crew import Alone
from heretic.search.deadline import Deadline
from heretic.search.interruption import InterruptGuard
from heretic.search.loop import FAILURES_IN_A_ROW, SearchResult, search
from heretic.search.records import stored_records
from heretic.search.sampler import make_sampler
from heretic.search.storage import open_study

Measure = Callable[[EditPlan, int], tuple[Score, ...]]


def scores_of(plan: EditPlan) -> Scores:
    """Stronger edits refuse less and diverge more."""
    strength = sum(schedule.peak_weight for _, schedule in plan.schedules)
    return Scores((Score("refusals", round(50 - 15 * strength), 100, 50.0),), Score("kl", 0.1 * strength**2, 100, 0.0))


class Fake:
    """Measures plans, fails where told, and remembers what it was asked."""

    def __init__(self, failing: Callable[[int], bool] = lambda call: False) -> None:
        self.plans: list[EditPlan] = []
        self.numbers: list[int] = []
        self._failing = failing

    def __call__(self, plan: EditPlan, trial: int) -> tuple[Score, ...]:
        self.plans.append(plan)
        self.numbers.append(trial)
        if self._failing(len(self.plans) - 1):
            raise TrialFailed(f"call {len(self.plans) - 1} broke")
        return scores_of(plan)


class FakeEngine:
    """Measures plan after plan by a function; remembers how many it was given at once, and the gates."""

    def __init__(self, measure: Measure, candidates: int = 1) -> None:
        self.candidates = candidates
        self.batches: list[int] = []
        self.gates: list[Gate] = []
        self._measure = measure

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
        self.batches.append(len(plans))
        self.gates.append(gate)
        return [self._measure_one(plan, number) for plan, number in zip(plans, numbers, strict=True)]

    def _measure_one(self, plan: EditPlan, number: int) -> Measurement:
        try:
            return Measurement(self._measure(plan, number), TrialState.COMPLETE)
        except TrialFailed as error:
            return Measurement(None, TrialState.FAILED, str(error))


def run(
    path: Path,
    measure: Measure | Engine,
    n_trials: int,
    seed: int | None = 0,
    n_startup_trials: int = 4,
    deadline: Deadline | None = None,
) -> tuple[SearchResult, optuna.Study, list[Event]]:
    url = url_of(path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    study.sampler = make_sampler(seed, n_startup_trials, len(study.trials))
    seen: list[Event] = []
    engine = FakeEngine(measure) if callable(measure) else measure
    with subscribed(seen.append):
        result = search(study, url, SPACE, Alone(engine), n_trials, deadline=deadline)
    return result, study, seen


class Clock:
    """Goes on by what each batch takes."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self._seconds = itertools.cycle(seconds)

    def __call__(self) -> float:
        return self.now

    def measure(self, plan: EditPlan, _number: int) -> tuple[Score, ...]:
        self.now += next(self._seconds)
        return scores_of(plan)


@pytest.mark.parametrize(
    ("end", "seconds", "trials"),
    [
        # A fifth batch of 10 s would end at 50.
        (45.0, (10.0,), 4),
        (50.0, (10.0,), 5),
        # The longest of the latest says how long the next may take.
        (45.0, (20.0, 2.0, 2.0), 4),
        # Used up before the first: that one is measured all the same.
        (-100.0, (10.0,), 1),
        (1000.0, (10.0,), 7),
    ],
)
def test_a_search_whose_time_is_limited_stops_asking_before_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: float, seconds: tuple[float, ...], trials: int
) -> None:
    clock = Clock(*seconds)
    monkeypatch.setattr("heretic.search.loop.time.perf_counter", clock)
    result, _study, seen = run(tmp_path, clock.measure, 7, deadline=Deadline(end, clock))
    assert (result.complete, result.interrupted) == (trials, False)
    (ended,) = [event for event in seen if isinstance(event, SearchFinished)]
    assert ended.out_of_time is (trials < 7)


def test_a_search_without_a_number_of_trials_shows_how_much_time_is_left(tmp_path: Path) -> None:
    clock, steps = Clock(10.0), []
    with subscribed(lambda event: steps.append(event) if isinstance(event, StepAdvanced) else None, steps=True):
        run(tmp_path, clock.measure, OPEN_TRIALS, deadline=Deadline(0.0, lambda: clock() - 100.0 if not steps else 1.0))
    assert [(event.done, event.total, event.remaining) for event in steps] == [(1, 0, 90.0)]


def test_runs_until_enough_trials_are_complete(tmp_path: Path) -> None:
    fake = Fake()
    result, study, seen = run(tmp_path, fake, 7)
    assert (result.complete, result.interrupted) == (7, False)
    assert fake.numbers == list(range(7))
    assert [entry.plan for entry in result.records] == fake.plans
    assert [entry.scores for entry in result.records] == [scores_of(plan) for plan in fake.plans]
    assert [trial.state for trial in study.trials] == [OptunaState.COMPLETE] * 7
    assert isinstance(seen[0], SearchStarted)
    assert isinstance(seen[-1], SearchFinished)
    assert (seen[-1].finished, seen[-1].interrupted) == (7, False)


def test_failed_trials_are_kept_with_their_reason_and_do_not_count(tmp_path: Path) -> None:
    fake = Fake(failing=lambda call: call % 3 == 1)
    result, study, seen = run(tmp_path, fake, 6)
    assert result.complete == 6
    broken = [entry for entry in result.records if entry.state is TrialState.FAILED]
    assert [entry.reason for entry in broken] == [f"call {entry.number} broke" for entry in broken]
    assert len(broken) == len(fake.plans) - 6 > 0
    assert all(entry.scores is None and entry.plan == fake.plans[entry.number] for entry in broken)
    reported = [event for event in seen if isinstance(event, TrialFinished)]
    assert tuple(event.record for event in reported) == result.records
    assert all((event.record.scores is None) == (event.record.reason != "") for event in reported)
    assert all(not event.on_front for event in reported if event.record.is_failed)
    assert stored_records(study) == list(result.records)


def test_reports_whether_a_trial_is_on_the_front_so_far(tmp_path: Path) -> None:
    values = iter([(10, 0.5), (20, 0.9), (5, 0.9), (10, 0.4)])

    def measure(_plan: EditPlan, _trial: int) -> tuple[Score, ...]:
        refusals, kl = next(values)
        return Scores((Score("refusals", refusals, 100, 50.0),), Score("kl", kl, 100, 0.0))

    _, _, seen = run(tmp_path, measure, 4)
    assert [event.on_front for event in seen if isinstance(event, TrialFinished)] == [True, False, True, True]


def test_too_many_failures_in_a_row_end_the_search(tmp_path: Path) -> None:
    fake = Fake(failing=lambda call: call >= 2)
    with pytest.raises(HereticError, match=rf"{FAILURES_IN_A_ROW} trials in a row failed, .*call 11 broke"):
        run(tmp_path, fake, 5)
    assert len(fake.plans) == 2 + FAILURES_IN_A_ROW
    study = open_study(url_of(tmp_path / "study.db"), "heretic", IDENTITY)
    assert len(stored_records(study)) == 2 + FAILURES_IN_A_ROW


def test_failures_with_successes_between_do_not_end_the_search(tmp_path: Path) -> None:
    fake = Fake(failing=lambda call: call % FAILURES_IN_A_ROW != 0)
    assert run(tmp_path, fake, 3)[0].complete == 3


def test_an_unexpected_error_passes_through_and_the_next_run_goes_on(tmp_path: Path) -> None:
    def broken(plan: EditPlan, trial: int) -> tuple[Score, ...]:
        if trial == 2:
            raise ZeroDivisionError
        return scores_of(plan)

    with pytest.raises(ZeroDivisionError):
        run(tmp_path, broken, 5)
    result, study, _ = run(tmp_path, Fake(), 5)
    assert result.complete == 5
    assert [trial.state for trial in study.trials].count(OptunaState.FAIL) == 1


def interrupting(at: int, times: int) -> Measure:
    def measure(plan: EditPlan, trial: int) -> tuple[Score, ...]:
        if trial == at:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return scores_of(plan)

    return measure


def test_the_first_interrupt_finishes_the_running_trial(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    result, study, seen = run(tmp_path, interrupting(2, times=1), 10)
    assert result.interrupted
    assert result.complete == 3
    assert [trial.state for trial in study.trials] == [OptunaState.COMPLETE] * 3
    assert any(isinstance(event, Warned) and "Ctrl+C again" in event.message for event in seen)
    assert isinstance(seen[-1], SearchFinished)
    assert seen[-1].interrupted
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_interrupt_stops_at_once_and_keeps_finished_trials(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupting(2, times=2), 10)
    assert signal.getsignal(signal.SIGINT) is before
    study = open_study(url_of(tmp_path / "study.db"), "heretic", IDENTITY)
    assert [entry.number for entry in stored_records(study)] == [0, 1]
    assert study.trials[2].state is OptunaState.FAIL
    result, _, _ = run(tmp_path, Fake(), 5)
    assert [entry.number for entry in result.records] == [0, 1, 3, 4, 5]


def test_the_guard_does_nothing_outside_the_main_thread() -> None:
    import threading

    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def enter() -> None:
        with InterruptGuard() as guard:
            seen.append(signal.getsignal(signal.SIGINT))
            seen.append(guard.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before, False]


def test_same_seed_same_plans(tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2), ("d", None)):
        (tmp_path / name).mkdir()
        fake = Fake()
        run(tmp_path / name, fake, 9, seed=seed)
        runs.append(fake.plans)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert runs[0] != runs[3]


@pytest.mark.parametrize("n_startup_trials", [20, 3])
def test_a_resumed_run_draws_new_plans(tmp_path: Path, n_startup_trials: int) -> None:
    fake = Fake(failing=lambda call: call == 1)
    first, _, _ = run(tmp_path, fake, 4, n_startup_trials=n_startup_trials)
    resumed = Fake()
    result, _, seen = run(tmp_path, resumed, 9, n_startup_trials=n_startup_trials)
    assert result.records[: len(first.records)] == first.records
    assert len(resumed.plans) == 5
    everything = [*fake.plans, *resumed.plans]
    assert len({str(plan.to_json()) for plan in everything}) == len(everything)
    assert isinstance(seen[0], SearchStarted)
    assert seen[0].standing.finished == 4


def test_a_study_with_enough_trials_measures_nothing(tmp_path: Path) -> None:
    run(tmp_path, Fake(), 3)
    fake = Fake()
    result, _, _ = run(tmp_path, fake, 3)
    assert fake.plans == []
    assert result.complete == 3


def test_batches_end_with_the_study_and_share_their_time(tmp_path: Path) -> None:
    fake = Fake()
    engine = FakeEngine(fake, candidates=4)
    result, _, seen = run(tmp_path, engine, 10)
    assert engine.batches == [4, 4, 2]
    assert fake.numbers == list(range(10))
    assert len({str(plan.to_json()) for plan in fake.plans}) == 10
    assert [entry.number for entry in result.records] == list(range(10))
    assert [event.record.number for event in seen if isinstance(event, TrialFinished)] == list(range(10))
    assert len({entry.seconds for entry in result.records[:4]}) == 1
    assert sum(entry.seconds for entry in result.records) <= seen[-1].seconds  # type: ignore[attr-defined]


def test_failed_candidates_of_a_batch_are_made_up_for(tmp_path: Path) -> None:
    engine = FakeEngine(Fake(failing=lambda call: call in (1, 2)), candidates=4)
    result, _, _ = run(tmp_path, engine, 5)
    assert engine.batches == [4, 3]
    assert result.complete == 5


def test_the_engine_may_ask_for_smaller_batches_while_it_runs(tmp_path: Path) -> None:
    """As it does when memory runs out."""

    class Shrinking(FakeEngine):
        def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
            result = super().measure(plans, numbers, gate)
            self.candidates = 2
            return result

    engine = Shrinking(Fake(), candidates=4)
    assert run(tmp_path, engine, 8)[0].complete == 8
    assert engine.batches == [4, 2, 2]


def test_an_interrupt_finishes_the_running_batch(tmp_path: Path) -> None:
    engine = FakeEngine(interrupting(1, times=1), candidates=3)
    result, _, _ = run(tmp_path, engine, 10)
    assert (result.complete, result.interrupted) == (3, True)


class Stopping(FakeEngine):
    """An engine that asks the gate with all it knows, and stops where that closes."""

    def _measure_one(self, plan: EditPlan, number: int) -> Measurement:
        (refusals,), kl = scores_of(plan).behaviors, scores_of(plan).kl
        if self.gates[-1].closes((refusals.value, kl.value)):
            return Measurement(Scores((refusals,), kl), TrialState.DOMINATED, "it is worse than a finished trial")
        return Measurement(Scores((refusals,), kl), TrialState.COMPLETE)


def test_the_gate_knows_what_earlier_batches_and_runs_finished(tmp_path: Path) -> None:
    engine = FakeEngine(Fake(failing=lambda call: call == 1), candidates=2)
    result, _, _ = run(tmp_path, engine, 4)
    complete = [entry for entry in result.records if entry.state is TrialState.COMPLETE]
    behind = [Gate.behind(Front.of(complete[:count])) for count in (0, 1, 3, 4)]
    assert engine.gates == behind[:3]
    resumed = FakeEngine(Fake())
    run(tmp_path, resumed, 5)
    assert resumed.gates == behind[3:]


def test_a_trial_asks_as_much_of_the_database_late_as_early(tmp_path: Path) -> None:
    """Asking, telling and all between."""
    study = open_study(url_of(tmp_path / "study.db"), "heretic", IDENTITY)
    study.sampler = make_sampler(0, 2, 0)
    asked: list[int] = []

    class Counting(FakeEngine):
        def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], gate: Gate) -> list[Measurement]:
            asked.append(len(seen))
            return super().measure(plans, numbers, gate)

    with statements(study) as seen:
        search(study, url_of(tmp_path / "study.db"), SPACE, Alone(Counting(Fake(), candidates=2)), 60)
    steps = [after - before for before, after in itertools.pairwise(asked)]
    assert len(steps) == 29
    # From the second batch on plans are TPE's.
    assert set(steps[1:]) == {steps[-1]}


def test_a_finished_trial_is_compared_with_the_front_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many trials there are behind it; what is compared is counted, of trials that one other dominates."""
    compared = 0

    def counting(first: Sequence[float], second: Sequence[float]) -> bool:
        nonlocal compared
        compared += 1
        return original(first, second)

    def measure(_plan: EditPlan, trial: int) -> Scores:
        return Scores((Score("refusals", 5 + (trial > 0), 100, 50.0),), Score("kl", 0.1, 100, 0.0))

    original = front._no_worse
    monkeypatch.setattr(front, "_no_worse", counting)
    run(tmp_path, measure, 30)
    assert compared == 29
    # A resumed run looks at the trials of the one before once.
    run(tmp_path, measure, 40)
    assert compared == 29 + 29 + 10


class Full(FakeEngine):
    """Has no memory for the trials that are told."""

    def __init__(self, without_memory: Callable[[int], bool]) -> None:
        super().__init__(Fake())
        self._without_memory = without_memory

    def _measure_one(self, plan: EditPlan, number: int) -> Measurement:
        if self._without_memory(number):
            return Measurement(None, TrialState.FAILED, MEMORY_RAN_OUT)
        return super()._measure_one(plan, number)


def test_three_trials_without_memory_end_the_search_and_keep_what_was_measured(tmp_path: Path) -> None:
    with pytest.raises(SearchOutOfMemoryError, match=r"3 trials in a row, .*host .* free.*--quantization"):
        run(tmp_path, Full(lambda number: number in (0, 1) or number >= 4), 20)
    records = stored_records(open_study(url_of(tmp_path / "study.db"), "heretic", IDENTITY))
    assert [entry.state is TrialState.COMPLETE for entry in records] == [False, False, True, True, False, False, False]


def test_failures_for_several_reasons_are_not_blamed_on_memory(tmp_path: Path) -> None:
    class Both(Full):
        def _measure_one(self, plan: EditPlan, number: int) -> Measurement:
            if number % 3 == 0:
                return Measurement(None, TrialState.FAILED, "a bug")
            return super()._measure_one(plan, number)

    with pytest.raises(HereticError, match="10 trials in a row") as caught:
        run(tmp_path, Both(lambda _number: True), 20)
    assert not isinstance(caught.value, SearchOutOfMemoryError)


def test_sigterm_ends_after_the_running_batch_and_says_so(tmp_path: Path) -> None:
    def measure(plan: EditPlan, trial: int) -> tuple[Score, ...]:
        if trial == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return scores_of(plan)

    result, study, seen = run(tmp_path, FakeEngine(measure, candidates=3), 10)
    assert (result.complete, result.interrupted, result.terminated) == (3, True, True)
    assert [trial.state for trial in study.trials] == [OptunaState.COMPLETE] * 3
    assert any("SIGTERM" in event.message for event in seen if isinstance(event, Warned))


def test_a_second_sigterm_stops_at_once(tmp_path: Path) -> None:
    def measure(plan: EditPlan, _trial: int) -> tuple[Score, ...]:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return scores_of(plan)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated):
        run(tmp_path, measure, 10)
    assert signal.getsignal(signal.SIGTERM) == before
