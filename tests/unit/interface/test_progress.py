import io
import math

import pytest
from rich.console import Console
from tests.unit.measured import counted, divergence, measured, words

from heretic.interface.progress import Best, ProgressBar, SearchProgress, bar_line
from heretic.results.score import Scores


def best(refusals: int, n: int, kl: float) -> Best:
    return Best(measured(refusals, kl, n))


RESULT = best(5, 10, 0.1)


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_best_is_fewest_refusals_then_lowest_kl() -> None:
    few = best(3, 100, 0.5)

    assert few.better_than(None)
    assert few.better_than(best(4, 100, 0.001))
    assert few.better_than(best(3, 100, 0.6))
    assert not few.better_than(few)
    assert few.better_than(best(3, 100, math.nan))
    assert not best(3, 100, math.nan).better_than(few)


def test_best_of_several_behaviours_has_the_least_shares_together() -> None:
    def several(refusals: int, amount: float, kl: float) -> Best:
        return Best(Scores((counted(refusals, baseline=50), words(amount, baseline=20)), divergence(kl)))

    # 10/50 + 5/20 = 0.45
    few = several(10, 5, 0.5)

    assert few.better_than(several(0, 10, 0.1))
    assert few.better_than(several(25, 0, 0.1))
    assert few.better_than(several(10, 5, 0.6))
    assert several(15, 2.5, 9.0).better_than(few)
    assert str(few) == "best 10/100, 5.00 words at KL 0.5000"


def test_best_trial_survives_worse_and_failed_ones() -> None:
    progress = SearchProgress(0, 10, None, Clock())

    for result in (best(5, 10, 0.1), best(2, 10, 0.3), best(2, 10, 0.2), None, best(4, 10, 0.01)):
        progress.trial_finished(result)

    assert progress.best == best(2, 10, 0.2)
    assert progress.finished == 4


def test_best_of_an_earlier_run_counts() -> None:
    progress = SearchProgress(6, 10, best(1, 10, 0.2), Clock())

    progress.trial_finished(best(3, 10, 0.01))

    assert progress.best == best(1, 10, 0.2)


def test_remaining_time_follows_the_pace_and_counts_down() -> None:
    clock = Clock()
    progress = SearchProgress(4, 10, None, clock)
    assert progress.remaining is None

    for _ in range(2):
        clock.time += 7
        progress.trial_finished(RESULT)

    assert progress.remaining == pytest.approx(4 * 7)
    clock.time += 5
    assert progress.remaining == pytest.approx(4 * 7 - 5)
    clock.time += 1000
    assert progress.remaining == 0.0
    assert progress.elapsed == pytest.approx(14 + 1005)


def test_remaining_time_is_right_where_trials_finish_together() -> None:
    clock = Clock()
    progress = SearchProgress(0, 24, None, clock)

    for _ in range(3):
        clock.time += 40
        for _ in range(4):
            progress.trial_finished(RESULT)

    # 12 trials took 120 s, so the other 12 take as long.
    assert progress.remaining == pytest.approx(120)


def test_remaining_time_forgets_a_slow_beginning() -> None:
    clock = Clock()
    progress = SearchProgress(0, 200, None, clock)
    clock.time += 3600
    for _ in range(100):
        clock.time += 1
        progress.trial_finished(RESULT)

    assert progress.remaining == pytest.approx(100)


def test_failed_trials_cost_time_but_are_no_progress() -> None:
    clock = Clock()
    progress = SearchProgress(0, 10, None, clock)
    for result in (RESULT, None, None, RESULT):
        clock.time += 5
        progress.trial_finished(result)

    # Two complete trials took 20 s, so the other eight take 80 s.
    assert progress.finished == 2
    assert progress.remaining == pytest.approx(80)


@pytest.mark.parametrize("total", [1, 40, 200, 10_000])
@pytest.mark.parametrize("width", [20, 40, 60, 79, 200])
def test_bar_is_ascii_and_fits(total: int, width: int) -> None:
    clock = Clock()
    progress = SearchProgress(0, total, None, clock)
    clock.time += 4000
    progress.trial_finished(best(12, 100, 0.1234))

    assert len(bar_line(progress, width)) <= width
    assert bar_line(progress, width).isascii()


def test_bar_shows_share_count_best_and_times() -> None:
    clock = Clock()
    progress = SearchProgress(9, 40, best(7, 100, 0.5), clock)
    clock.time += 21
    progress.trial_finished(best(3, 100, 0.0123))

    line = bar_line(progress, 79)
    bar = line[1 : line.index("]")]

    assert set(bar) == {"#", "-"}
    assert bar.count("#") == len(bar) * 10 // 40
    for part in ("10/40", "best 3/100 at KL 0.0123", "0:21 elapsed", "10:30 left"):
        assert part in line


def test_bar_is_full_also_after_more_trials_than_wanted() -> None:
    progress = SearchProgress(12, 10, None, Clock())

    assert "-" not in bar_line(progress, 60)


def test_live_bar_leaves_the_terminal_as_it_was() -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True)
    bar = ProgressBar(console, SearchProgress(1, 2, None, Clock()))

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
