import io

import pytest
from rich.console import Console

from heretic.interface.progress import Steps

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def a_terminal(width: int = 80, encoding: str = "utf-8") -> tuple[Console, io.BytesIO]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    return Console(file=file, width=width, force_terminal=True, color_system=None, legacy_windows=False), raw


def steps_of(clock: Clock, total: int, done: int = 0, text: str = "") -> Steps:
    return Steps(a_terminal()[0], total, done, text, now=clock)


def test_remaining_time_follows_the_pace_and_counts_down() -> None:
    clock = Clock()
    steps = steps_of(clock, 10, 4)
    assert steps.remaining is None

    for done in (5, 6):
        clock.time += 7
        steps.reached(done)

    assert steps.remaining == pytest.approx(4 * 7)
    clock.time += 5
    assert steps.remaining == pytest.approx(4 * 7 - 5)
    clock.time += 1000
    assert steps.remaining == 0.0


def test_remaining_time_is_right_where_steps_are_done_together() -> None:
    clock = Clock()
    steps = steps_of(clock, 24)

    for batch in range(3):
        clock.time += 40
        for place in range(4):
            steps.reached(4 * batch + place + 1)

    # 12 steps took 120 s, so the other 12 take as long.
    assert steps.remaining == pytest.approx(120)


def test_failed_steps_cost_time_but_are_no_progress() -> None:
    clock = Clock()
    steps = steps_of(clock, 10)
    for done in (1, 1, 1, 2):
        clock.time += 5
        steps.reached(done)

    # Two steps took 20 s, so the other eight take 80 s.
    assert steps.remaining == pytest.approx(80)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("total", [1, 10_000])
@pytest.mark.parametrize("width", [20, 40, 79, 200])
def test_the_bar_is_one_line_that_fits(total: int, width: int, encoding: str) -> None:
    console, raw = a_terminal(width, encoding)
    with Steps(console, total, text="best 3/100 at KL 0.0123"):
        pass

    lines = raw.getvalue().decode(encoding).replace(HIDE, "").replace(SHOW, "").split("\r")
    assert max(len(line.split("\x1b")[0].rstrip()) for line in lines) <= width
    # One line at a time: what is taken away never goes up.
    assert "\x1b[1A" not in lines[1]


def test_the_summary_has_count_text_and_times() -> None:
    clock = Clock()
    steps = steps_of(clock, 40, 9, "best 7/100")
    clock.time += 21
    steps.reached(10, "best 3/100 at KL 0.0123")

    assert steps.summary() == "10/40  best 3/100 at KL 0.0123  0:21 elapsed, 10:30 left"


def test_the_bar_is_full_also_after_more_steps_than_wanted() -> None:
    console, raw = a_terminal(80, "ascii")
    with Steps(console, 10, 12):
        pass

    assert b"-" * 40 in raw.getvalue()


def test_the_bar_leaves_the_terminal_as_it_was() -> None:
    console, raw = a_terminal()
    with Steps(console, 2, 1):
        console.print("a line above")

    output = raw.getvalue().decode()
    assert "a line above\n" in output
    assert output.count(HIDE) == output.count(SHOW) == 1
    assert output.index(HIDE) < output.index(SHOW)
    # Everything from the start of the bar to the end of the screen is taken away at the end.
    assert output.rstrip().endswith("\x1b[2K")


def test_elsewhere_nothing_is_shown() -> None:
    file = io.StringIO()
    with Steps(Console(file=file), 2) as steps:
        steps.reached(1)

    assert file.getvalue() == ""
