"""The log file: JSON lines, nothing secret, refused where it cannot be written, and no reason to end a run."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.measured import capability, measured, searched, trial

from heretic.common.errors import UserError
from heretic.export.redact import publishable
from heretic.observability import events
from heretic.observability.events import Event, Warned, emit, subscribed
from heretic.observability.log import LogFile
from heretic.results.trial import TrialState

FULL = Path("/dev/full")
(STARTED, TRIAL) = searched(trial(measured(3, 0.5, 20), 4), n_trials=10, earlier=[trial(measured(5, 0.25), 1)])
needs_full_device = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


def log_file(path: Path, level: str = "info") -> LogFile:
    return LogFile(path, level, publishable, lambda: {"host": {"used_bytes": 5}})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_step_is_a_line_with_numbers_as_fields(tmp_path: Path) -> None:
    path = tmp_path / "heretic.log"
    with log_file(path) as log, subscribed(log):
        emit(TRIAL)
        emit(Warned("caf\u00e9"))
    opened, ended, warned = lines(path)
    assert opened["event"] == "log_opened"
    assert list(ended)[:4] == ["timestamp", "level", "event", "pid"]
    assert ended["timestamp"].endswith("Z")
    assert (ended["event"], ended["level"], ended["pid"]) == ("trial_finished", "info", os.getpid())
    assert {own["name"]: (own["value"], own["n"]) for own in ended["scores"]} == {"refusals": (3, 20), "kl": (0.5, 20)}
    assert ended["seconds"] == 1.84
    assert ended["parameters"] == {"scope": "layer", "mlp": "peak 1.25 at 0.75, floor 0.10, width 0.50"}
    assert ended["memory"] == {"host": {"used_bytes": 5}}
    assert (warned["level"], warned["message"]) == ("warning", "caf\u00e9")


def test_lines_of_results_have_the_keys_that_they_always_had(tmp_path: Path) -> None:
    """Whoever reads logs relies on them: keys are only ever added."""
    path = tmp_path / "heretic.log"
    checked = events.FrontChecked(trial(measured(4, 0.5)), measured(3, 0.25))
    applied = events.TrialApplied(trial(measured(4, 0.5)), measured(3, 0.25))
    failed = searched(trial(None, 4, TrialState.FAILED, "memory ran out"))[1]
    with log_file(path) as log, subscribed(log):
        for event in (STARTED, TRIAL, failed, checked, applied, events.CapabilityMeasured(capability(), 2.0)):
            emit(event)
    started, ended, broken, *again, able = lines(path)[1:]
    assert {"finished", "n_trials", "best", "states", "lowest_kl"} <= set(started)
    assert (started["finished"], started["n_trials"], started["lowest_kl"]) == (1, 10, 0.25)
    names = {"number", "n_trials", "scores", "seconds", "on_front", "reason", "parameters", "dominated"}
    assert names <= set(ended)
    assert (ended["number"], ended["dominated"], ended["on_front"]) == (4, False, True)
    assert ended["scores"][0] == {
        "name": "refusals",
        "value": 3.0,
        "n": 20,
        "baseline": 97.0,
        "details": {"tokens": 30},
        "unit": "",
    }
    assert (broken["scores"], broken["reason"]) == ([], "memory ran out")
    for line in again:
        assert (line["number"], line["scores"][0]["value"], line["searched"][0]["value"]) == (11, 3.0, 4.0)
    assert able["result"]["questions"]["overall"]["n"] == 2


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["response_measured", "trial_finished", "library_logged", "warned", "run_ended"]),
        ("info", ["trial_finished", "warned", "run_ended"]),
        ("warning", ["warned", "run_ended"]),
        ("error", ["run_ended"]),
    ],
)
def test_the_level_decides_what_is_written(tmp_path: Path, level: str, expected: list[str]) -> None:
    path = tmp_path / "heretic.log"
    with log_file(path, level) as log:
        for event in (
            events.ResponseMeasured(None, "p", "r", "answered"),
            TRIAL,
            events.LibraryLogged("torch", "debug", "detail"),
            Warned("w"),
            events.RunEnded(1, 1.0, "it failed"),
        ):
            log(event)
    assert [line["event"] for line in lines(path) if line["event"] != "log_opened"] == expected


def test_a_librarys_level_is_that_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "heretic.log"
    with log_file(path) as log:
        log(events.LibraryLogged("torch", "critical", "broken"))
        log(events.LibraryLogged("torch", "notice", "a level of its own"))
    assert [line["level"] for line in lines(path)[1:]] == ["error", "info"]


def test_nothing_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "hf_" + "a1B2" * 8
    monkeypatch.setenv("HF_TOKEN", "another-token-of-mine")
    path = tmp_path / "heretic.log"
    with log_file(path, "debug") as log:
        log(Warned(f"Bearer {token} failed for another-token-of-mine"))
        log(events.StudyOpened("s", "postgresql://me:pass@word@host/db", 0, 1))
        log(events.RunStarted("1", "m", None, None, {"storage": f"mysql://me:{token}@host/db (command line)"}))
        log(events.RunEnded(1, 1.0, "failed", f"Traceback {token}"))
    text = path.read_text(encoding="utf-8")
    assert token not in text
    assert "another-token-of-mine" not in text
    assert "word@" not in text
    assert len(lines(path)) == 5


def test_runs_append(tmp_path: Path) -> None:
    path = tmp_path / "heretic.log"
    for _ in range(2):
        with log_file(path) as log:
            log(TRIAL)
    assert [line["event"] for line in lines(path)] == ["log_opened", "trial_finished"] * 2


@pytest.mark.parametrize("name", ["gone/heretic.log", ".", "nul\0l"])
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be written .*name another one with --log-file"):
        log_file(tmp_path / name)


@needs_full_device
def test_a_disk_that_is_full_from_the_beginning_is_refused() -> None:
    with pytest.raises(UserError, match="No space left"):
        log_file(FULL)


@needs_full_device
def test_a_disk_that_fills_up_is_said_once_and_the_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "heretic.log"
    seen: list[Event] = []
    with log_file(path) as log, subscribed(seen.append), subscribed(log):
        kept = os.dup(log._descriptor)
        full = os.open(FULL, os.O_WRONLY)
        os.dup2(full, log._descriptor)
        for _ in range(3):
            emit(TRIAL)
        os.dup2(kept, log._descriptor)
        emit(events.SearchFinished(1, 1.0, False))
        os.close(kept)
        os.close(full)
    (said,) = [event.message for event in seen if isinstance(event, Warned)]
    assert "No space left" in said
    assert "goes on" in said
    assert [line["event"] for line in lines(path)] == ["log_opened", "search_finished"]


def test_a_line_that_was_torn_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "heretic.log"
    real_write = os.write
    with log_file(path) as log:
        room = iter([10])

        def nearly_full(descriptor: int, data: bytes) -> int:
            count = next(room, None)
            if count is None:
                raise OSError(28, "No space left on device")
            return real_write(descriptor, data[:count])

        monkeypatch.setattr(os, "write", nearly_full)
        log(TRIAL)
        monkeypatch.setattr(os, "write", real_write)
        log(Warned("after"))
    texts = path.read_text(encoding="utf-8").splitlines()
    assert len(texts[1]) == 10
    assert json.loads(texts[2])["message"] == "after"
