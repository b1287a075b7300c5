"""Foreign text at every place where a terminal gets it, and streams that end, in real processes."""

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from questionary import Choice
from rich.console import Console
from tests.unit.measured import counted, divergence, searched, trial

from heretic import cli
from heretic.common.errors import HereticError
from heretic.common.output import clean, escaped_in_json
from heretic.interface import asking, chat, picker
from heretic.interface.console import ConsoleReporter
from heretic.interface.printer import Printer
from heretic.interface.progress import summary
from heretic.interface.status_lines import status_rows
from heretic.observability import events
from heretic.observability.log import LogFile
from heretic.results import words
from heretic.results.score import Scores
from heretic.results.trial import TrialState
from heretic.search.status import StudyStatus

needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")

HOSTILE = "a\x1b]52;c;ZXZpbA==\x07b\x1b[2Jc\x9b31md\x9d0;t\x9ce\u202ef\u2066g\rh\x08\x7fi"
HOSTILE_SCORES = Scores((counted(3, name=HOSTILE),), divergence(0.1))


def assert_harmless(text: str) -> None:
    shown = text.replace("\x1b[?25l", "").replace("\x1b[?25h", "")
    assert "ZXZpbA" in shown
    assert not [character for character in shown if not character.isprintable() and character != "\n"], shown


def printed(write: Callable[[Console], object]) -> str:
    file = io.StringIO()
    write(Console(file=file, width=200, markup=False, highlight=False))
    return file.getvalue()


def test_text_that_a_terminal_would_obey_becomes_codes() -> None:
    assert clean("\x1b]52;c;x\x07 \x9b1m \u202e") == r"\x1b]52;c;x\x07 \x9b1m \u202e"
    value = {"a": HOSTILE}
    line = escaped_in_json(json.dumps(value, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == value


@pytest.mark.parametrize("outcome", [HereticError(HOSTILE), ValueError(HOSTILE)], ids=["error", "traceback"])
def test_errors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcome: Exception) -> None:
    def run(_argv: object) -> int:
        raise outcome

    monkeypatch.setattr(cli, "_command_or_run", run)
    assert cli.main([]) == 1
    assert_harmless(capsys.readouterr().err)


@pytest.mark.parametrize(
    "event",
    [
        events.RunStarted("1", HOSTILE, HOSTILE, HOSTILE, {HOSTILE: HOSTILE}),
        events.Warned(HOSTILE),
        events.LibraryLogged(HOSTILE, "warning", HOSTILE),
        events.ModelLoading(HOSTILE, HOSTILE),
        events.ModelLoaded(HOSTILE, HOSTILE, 4, HOSTILE, HOSTILE, 1.0),
        events.LayoutFound(HOSTILE, 2, 4, {HOSTILE: 2}, (HOSTILE,)),
        events.PromptsLoaded(HOSTILE, HOSTILE, 4),
        events.DirectionsFound(HOSTILE, 1, (0.1, 0.4), 8.4),
        events.StudyOpened(HOSTILE, HOSTILE, 0, 4),
        events.BaselineMeasured((counted(3, name=HOSTILE),), 3, 1.0),
        events.ResponseMeasured(1, HOSTILE, HOSTILE, HOSTILE),
        events.ModelSaved(HOSTILE, 1, 1, HOSTILE, False),
        *searched(trial(HOSTILE_SCORES), trial(state=TrialState.FAILED, reason=HOSTILE))[1:],
    ],
    ids=lambda event: type(event).__name__,
)
def test_lines_and_log_of_a_run(event: events.Event, tmp_path: Path) -> None:
    assert_harmless(printed(lambda console: ConsoleReporter(True, console, level="debug")(event)))
    with LogFile(tmp_path / "log", "debug", lambda value: value, dict) as log:
        log(event)
    assert_harmless((tmp_path / "log").read_text())


def test_what_commands_print() -> None:
    def everything(console: Console) -> None:
        printer = Printer(console)
        printer.line(HOSTILE)
        printer.text(HOSTILE)
        printer.row(HOSTILE, HOSTILE)
        printer.json({HOSTILE: HOSTILE})
        best = trial(HOSTILE_SCORES)
        trials = {"complete": 1, "stopped": 0, "failed": 0, "running": 0, "waiting": 0}
        printer.rows(status_rows(StudyStatus(HOSTILE, HOSTILE, "unknown", None, trials, (best,), 0.0)))

    assert_harmless(printed(everything))


def test_what_is_asked_and_said_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        asking.questionary,
        "select",
        lambda message, choices, **_: asked.extend([message, *(choice.title for choice in choices)]),
    )
    monkeypatch.setattr(asking, "ask", lambda _question: None)
    monkeypatch.setattr(picker, "require_terminal", lambda *_: None)
    picker.pick_trial([trial(HOSTILE_SCORES)], None, 1)
    asking.select(HOSTILE, [Choice(HOSTILE)], "")
    picker.pick_study_conflict(HOSTILE, HOSTILE, HOSTILE)
    chat.write(HOSTILE)
    assert_harmless("\n".join(asked))
    assert_harmless(capsys.readouterr().out)


def test_the_bar() -> None:
    event = events.StepAdvanced("searching", (), 1, 4, "trials", words.best(HOSTILE_SCORES))
    assert_harmless(printed(lambda console: console.print(summary(event, 1.0, None))))


COMMAND = "import sys; from heretic.cli import main; sys.exit(main(sys.argv[1:]))"
needs_posix = pytest.mark.skipif(os.name == "nt", reason="terminals and devices of POSIX")


def started(folder: Path, script: str, *arguments: str, **streams: Any) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("HERETIC_")}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=folder, env=environment, **streams)


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def dead_terminal() -> int:
    controlling, terminal = pty.openpty()
    os.close(controlling)
    return terminal


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


ENDED = [closed_pipe, dead_terminal, pytest.param(full_disk, marks=needs_full_device)]


@pytest.mark.integration
@needs_posix
@pytest.mark.parametrize("end", ENDED)
def test_an_answer_that_cannot_be_written_is_said_unless_nobody_waits_for_it(
    tmp_path: Path, end: Callable[[], int]
) -> None:
    descriptor = end()
    with started(tmp_path, COMMAND, "--help", stdout=descriptor, stderr=subprocess.PIPE) as process:
        _, errors = process.communicate(timeout=100)
    os.close(descriptor)
    assert process.returncode == 1
    assert errors.count(b"\n") == (0 if end is closed_pipe else 1)
    assert errors.startswith(b"" if end is closed_pipe else b"Error: Standard output cannot be written (")


@pytest.mark.integration
@needs_posix
@pytest.mark.parametrize("number", [1, 2])
def test_a_stream_that_was_closed_before_is_no_fault(tmp_path: Path, number: int) -> None:
    command = f'exec "$0" -c "$1" --version {number}>&-'
    result = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, COMMAND], cwd=tmp_path, capture_output=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"" if number == 1 else b"heretic ")


@pytest.mark.integration
@needs_posix
def test_standard_error_that_ends_takes_nothing_along(tmp_path: Path) -> None:
    with started(tmp_path, COMMAND, "--no-such-option", stderr=closed_pipe()) as process:
        assert process.wait(timeout=100) == 2
