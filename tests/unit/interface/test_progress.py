import io
from dataclasses import replace

import pytest
from rich.console import Console
from tests.unit.measured import measured, trial

from heretic.interface.progress import ProgressBar, SearchProgress, bar_line
from heretic.results.front import Standing
from heretic.results.trial import TrialRecord


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def progress_of(finished: int, total: int, clock: Clock, best: TrialRecord | None = None) -> SearchProgress:
    return SearchProgress(Standing(finished, total, best), clock)


def one_more(progress: SearchProgress, count: int = 1) -> None:
    progress.trial_finished(replace(progress.standing, finished=progress.finished + count))


def test_remaining_time_follows_the_pace_and_counts_down() -> None:
    clock = Clock()
    progress = progress_of(4, 10, clock)
    assert progress.remaining is None

    for _ in range(2):
        clock.time += 7
        one_more(progress)

    assert progress.remaining == pytest.approx(4 * 7)
    clock.time += 5
    assert progress.remaining == pytest.approx(4 * 7 - 5)
    clock.time += 1000
    assert progress.remaining == 0.0
    assert progress.elapsed == pytest.approx(14 + 1005)


def test_remaining_time_is_right_where_trials_finish_together() -> None:
    clock = Clock()
    progress = progress_of(0, 24, clock)

    for _ in range(3):
        clock.time += 40
        for _ in range(4):
            one_more(progress)

    # 12 trials took 120 s, so the other 12 take as long.
    assert progress.remaining == pytest.approx(120)


def test_remaining_time_forgets_a_slow_beginning() -> None:
    clock = Clock()
    progress = progress_of(0, 200, clock)
    clock.time += 3600
    for _ in range(100):
        clock.time += 1
        one_more(progress)

    assert progress.remaining == pytest.approx(100)


def test_failed_trials_cost_time_but_are_no_progress() -> None:
    clock = Clock()
    progress = progress_of(0, 10, clock)
    for count in (1, 0, 0, 1):
        clock.time += 5
        one_more(progress, count)

    # Two complete trials took 20 s, so the other eight take 80 s.
    assert progress.finished == 2
    assert progress.remaining == pytest.approx(80)


@pytest.mark.parametrize("total", [1, 40, 200, 10_000])
@pytest.mark.parametrize("width", [20, 40, 60, 79, 200])
def test_bar_is_ascii_and_fits(total: int, width: int) -> None:
    clock = Clock()
    progress = progress_of(0, total, clock)
    clock.time += 4000
    progress.trial_finished(Standing(1, total, trial(measured(12, 0.1234))))

    assert len(bar_line(progress, width)) <= width
    assert bar_line(progress, width).isascii()


def test_bar_shows_share_count_best_and_times() -> None:
    clock = Clock()
    progress = progress_of(9, 40, clock, trial(measured(7, 0.5)))
    clock.time += 21
    progress.trial_finished(Standing(10, 40, trial()))

    line = bar_line(progress, 79)
    bar = line[1 : line.index("]")]

    assert set(bar) == {"#", "-"}
    assert bar.count("#") == len(bar) * 10 // 40
    for part in ("10/40", "best 3/100 at KL 0.0123", "0:21 elapsed", "10:30 left"):
        assert part in line


def test_bar_is_full_also_after_more_trials_than_wanted() -> None:
    progress = progress_of(12, 10, Clock())

    assert "-" not in bar_line(progress, 60)


def test_live_bar_leaves_the_terminal_as_it_was() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True)
    bar = ProgressBar(console, progress_of(1, 2, Clock()))

    bar.start()
    console.print("a line above")
    bar.stop()

    output = file.getvalue()
    assert "a line above\n" in output
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert output.count(hide) == output.count(show) == 1
    assert output.index(hide) < output.index(show)
    # Everything from the start of the bar to the end of the screen is taken away at the end.
    assert output.rstrip().endswith("\x1b[2K")
