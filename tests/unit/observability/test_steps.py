import threading
from collections.abc import Iterator

import pytest

from heretic.observability import steps
from heretic.observability.events import (
    Event,
    StepAdvanced,
    StepEnded,
    StepGoesOn,
    StepStarted,
    subscribed,
)
from heretic.observability.steps import Pace, counted, step, tell


class Clock:
    time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def seen() -> Iterator[list[Event]]:
    events: list[Event] = []
    with subscribed(events.append, steps=True):
        yield events


def kinds(seen: list[Event]) -> list[type[Event]]:
    return [type(event) for event in seen]


def test_a_step_says_when_it_begins_how_far_it_is_and_when_it_ends(seen: list[Event]) -> None:
    clock = Clock()
    with step("reading", 40, "prompts", now=clock) as progress:
        clock.time += 10
        progress.advance(10, "half way")

    assert seen == [
        StepStarted("reading", (), 0, 40, "prompts"),
        StepAdvanced("reading", (), 10, 40, "prompts", "half way", 10.0, 30.0),
        StepEnded("reading", (), 10, 40, "prompts", "half way", 10.0, 30.0),
    ]


def test_a_step_that_fails_ends_all_the_same(seen: list[Event]) -> None:
    with pytest.raises(KeyboardInterrupt), step("reading"):
        raise KeyboardInterrupt

    assert kinds(seen) == [StepStarted, StepEnded]
    tell()
    assert kinds(seen) == [StepStarted, StepEnded], "nothing goes on"


def test_loops_count_in_the_step_around_them_one_event_a_batch(seen: list[Event]) -> None:
    with step("preparing"), step("answering"):
        assert list(counted([(0, 1), (2,)], 3, "prompts", len)) == [(0, 1), (2,)]

    advanced = [event for event in seen if isinstance(event, StepAdvanced)]
    assert [(event.doing, event.within, event.done, event.total) for event in advanced] == [
        ("answering", ("preparing",), done, 3) for done in (0, 2, 3)
    ]


def test_one_loop_after_the_other_adds_up_and_another_unit_begins_anew(seen: list[Event]) -> None:
    with step("answering"):
        for unit in ("prompts", "prompts", "answers"):
            list(counted(range(2), 2, unit))

    counts = [(event.done, event.total, event.unit) for event in seen if isinstance(event, StepAdvanced)]
    assert counts[2] == (2, 2, "prompts")
    assert counts[5] == (4, 4, "prompts")
    assert counts[6:] == [(0, 2, "answers"), (1, 2, "answers"), (2, 2, "answers")]


@pytest.mark.parametrize("total", [0, 5])
def test_a_step_that_counts_itself_is_not_counted_by_loops(seen: list[Event], total: int) -> None:
    with step("searching", total, "trials"):
        list(counted(range(3), 3, "prompts"))
    list(counted(range(3), 3, "prompts"))

    assert kinds(seen) == [StepStarted, StepEnded]


def test_what_goes_on_is_the_innermost_step(seen: list[Event]) -> None:
    clock = Clock()
    with step("preparing"), step("loading", now=clock):
        clock.time += 31
        tell()

    (told,) = [event for event in seen if isinstance(event, StepGoesOn)]
    assert told == StepGoesOn("loading", ("preparing",), elapsed=31.0)


def test_a_single_long_batch_is_told_of_by_another_thread() -> None:
    told = threading.Event()
    names: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, StepGoesOn):
            names.append(threading.current_thread().name)
            told.set()

    with subscribed(hear, steps=True), step("loading"), steps.telling(0.001):
        assert told.wait(60)

    assert names[0] != threading.current_thread().name
    assert steps.TELL_SECONDS < 30


def test_the_pace_is_that_of_the_latest_batches() -> None:
    pace = Pace(0.0)
    assert pace.seconds is None
    for batch in range(1, 101):
        pace.reached(10.0 * batch, 4 * batch)
    # From now on another program takes half of the machine.
    for batch in range(1, steps.PACE_SAMPLES + 1):
        pace.reached(1000.0 + 20.0 * batch, 400 + 4 * batch)

    assert pace.seconds == pytest.approx(5.0)


def test_failed_units_cost_time_but_are_no_progress() -> None:
    pace = Pace(0.0)
    for second, done in ((5, 1), (10, 1), (15, 1), (20, 2)):
        pace.reached(float(second), done)

    assert pace.seconds == pytest.approx(10.0)


def test_batches_of_moments_count_together() -> None:
    pace = Pace(0.0)
    for number in range(1, 10_001):
        pace.reached(number / 1000, number)

    # The window reaches back further than 16 of a thousand batches a second.
    assert pace.seconds == pytest.approx(1 / 1000, rel=0.01)
    assert pace._samples[-1][0] - pace._samples[0][0] > 4
