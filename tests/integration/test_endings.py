"""Terminals, connections and readers that go away in the middle of a run."""

import json
import os
from pathlib import Path

import pytest
from tests.integration.command import QUICK_PICO, Command, saving_to

pytestmark = pytest.mark.integration

DEAD_TERMINAL = "import os, pty\ncontrolling, terminal = pty.openpty()\nos.close(controlling)\nos.dup2(terminal, 1)\n"
CLOSED_PIPE = "import os\nreading, writing = os.pipe()\nos.close(reading)\nos.dup2(writing, 1)\n"
FULL_DISK = "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
HANGUP = "import os, signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
# As a session ends: from its shell, and from the system once that is gone.
WHILE_MEASURING = """
from heretic.engine.engine import Engine
measure = Engine.measure
def hung_up(*arguments):
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    return measure(*arguments)
Engine.measure = hung_up
"""
WHILE_SAVING = """
from heretic.export import atomic
def hung_up(_folder):
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
atomic._sync_tree = hung_up
"""
LOGGED = ("pico", *QUICK_PICO, "--n-trials", "2", *saving_to("out"), "--log-file", "log")


def log_lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("end", [DEAD_TERMINAL, CLOSED_PIPE, FULL_DISK], ids=["terminal", "pipe", "disk"])
def test_output_that_ends_silences_the_console_and_nothing_else(heretic: Command, folder: Path, end: str) -> None:
    if end is FULL_DISK and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    result = heretic(folder, *LOGGED, before=end)
    assert (result.code, result.output, result.errors) == (0, "", "")
    lines = log_lines(folder)
    assert sum("Standard output cannot be written" in str(line.get("message")) for line in lines) == 1
    assert sum(line["event"] == "trial_finished" for line in lines) == 2
    assert (lines[-1]["event"], lines[-1]["exit_code"]) == ("run_ended", 0)
    assert (folder / "out" / "config.json").is_file()


def test_a_terminal_that_is_closed_keeps_the_trials_that_are_being_measured(heretic: Command, folder: Path) -> None:
    arguments = (*LOGGED, "--candidates", "2", "--n-trials", "6")
    result = heretic(folder, *arguments, before=DEAD_TERMINAL + HANGUP + WHILE_MEASURING)
    assert result.code == 143, result.errors
    lines = log_lines(folder)
    assert any(str(line.get("message")).startswith("SIGHUP: ") for line in lines)
    assert sum(line["event"] == "trial_finished" for line in lines) == 2
    assert (lines[-1]["event"], lines[-1]["exit_code"]) == ("run_ended", 143)
    resumed = heretic(folder, *arguments)
    resumed.assert_done()
    assert "2 of 6 trials are finished" in resumed.output


def test_a_terminal_that_is_closed_while_saving_leaves_no_partial_folder(heretic: Command, folder: Path) -> None:
    before = {*os.listdir(folder)}
    result = heretic(folder, *LOGGED, before=HANGUP + WHILE_SAVING)
    assert (result.code, result.errors) == (143, "Terminated.\n")
    assert {*os.listdir(folder)} - before == {"heretic_study.db", "log"}
    last = log_lines(folder)[-1]
    assert (last["event"], last["exit_code"]) == ("run_ended", 143)


@pytest.mark.parametrize("while_", [WHILE_MEASURING, WHILE_SAVING], ids=["measuring", "saving"])
def test_where_it_is_ignored_the_run_goes_on(heretic: Command, folder: Path, while_: str) -> None:
    ignored = "import os, signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    heretic(folder, *LOGGED, before=ignored + while_).assert_done()
    assert (folder / "out" / "config.json").is_file()
