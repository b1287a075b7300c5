import io

import pytest
from rich.console import Console

from heretic.interface.progress import Steps, summary
from heretic.observability.events import StepAdvanced, StepEnded, StepGoesOn, StepStarted

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


def refresh(steps: Steps) -> None:
    """What the bar's own thread does twice a second."""
    assert steps._bar is not None
    steps._bar.refresh()


SEARCH = StepStarted("searching", (), 10, 40, "trials", "best 3/100 at KL 0.0123", 21.0, 630.0)


def test_remaining_and_elapsed_time_go_on_between_events() -> None:
    clock = Clock()
    console, raw = a_terminal(120)
    with Steps(console, pytest.fail, clock) as steps:
        steps(SEARCH)
        for seconds in (5, 1000):
            clock.time += seconds
            refresh(steps)

    shown = raw.getvalue().decode()
    assert "10/40 trials  best 3/100 at KL 0.0123  0:21 elapsed, 10:30 left" in shown
    assert "0:26 elapsed, 10:25 left" in shown
    assert "17:06 elapsed, 0:00 left" in shown


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("total", [1, 10_000])
@pytest.mark.parametrize("width", [20, 40, 79, 200])
def test_the_bar_is_one_line_that_fits(total: int, width: int, encoding: str) -> None:
    console, raw = a_terminal(width, encoding)
    with Steps(console, pytest.fail) as steps:
        steps(StepStarted("searching", (), 0, total, "trials", "best 3/100 at KL 0.0123"))

    lines = raw.getvalue().decode(encoding).replace(HIDE, "").replace(SHOW, "").split("\r")
    assert max(len(line.split("\x1b")[0].rstrip()) for line in lines) <= width
    # One line at a time: what is taken away never goes up.
    assert "\x1b[1A" not in lines[1]


def test_the_summary_has_count_text_and_times() -> None:
    assert summary(SEARCH, 21, 630) == "searching  10/40 trials  best 3/100 at KL 0.0123  0:21 elapsed, 10:30 left"
    assert summary(StepStarted("reading", (), 1_200_000, 5_000_000, "bytes"), 1, None) == (
        "reading  1.2 MB of 5.0 MB  0:01 elapsed"
    )
    assert summary(StepStarted("loading\x1b[2J"), 3, None) == "loading\\x1b[2J  0:03 elapsed"


def test_only_the_innermost_step_is_shown_and_the_one_around_it_comes_back() -> None:
    console, raw = a_terminal()
    lines = []

    def shown() -> str:
        refresh(steps)
        text = raw.getvalue().decode()
        raw.seek(0)
        raw.truncate()
        return text

    with Steps(console, pytest.fail) as steps:
        steps(StepStarted("preparing"))
        steps(StepStarted("loading weights", ("preparing",)))
        steps(StepAdvanced("loading weights", ("preparing",), 3, 56, "tensors"))
        lines.append(shown())
        steps(StepEnded("loading weights", ("preparing",), 56, 56, "tensors"))
        lines.append(shown())

    assert "loading weights   3/56 tensors" in lines[0].splitlines()[-1]
    assert "preparing  0:00 elapsed" in lines[1]


def test_the_bar_is_full_also_after_more_steps_than_wanted() -> None:
    console, raw = a_terminal(80, "ascii")
    with Steps(console, pytest.fail) as steps:
        steps(StepStarted("searching", (), 12, 10, "trials"))

    assert b"-" * 30 in raw.getvalue()


def test_the_bar_leaves_the_terminal_as_it_was() -> None:
    console, raw = a_terminal()
    with Steps(console, pytest.fail) as steps:
        steps(StepStarted("searching", (), 1, 2, "trials"))
        console.print("a line above")

    output = raw.getvalue().decode()
    assert "a line above\n" in output
    assert output.count(HIDE) == output.count(SHOW) == 1
    assert output.index(HIDE) < output.index(SHOW)
    # Everything from the start of the bar to the end of the screen is taken away at the end.
    assert output.rstrip().endswith("\x1b[2K")


def test_elsewhere_a_line_says_how_far_it_is_and_nothing_else() -> None:
    file, lines = io.StringIO(), list[str]()
    with Steps(Console(file=file), lines.append) as steps:
        steps(SEARCH)
        steps(StepGoesOn("searching", (), 2, 4, "trials", "", 31.0, 33.0))

    assert file.getvalue() == ""
    assert lines == ["searching  2/4 trials  0:31 elapsed, 0:33 left"]
