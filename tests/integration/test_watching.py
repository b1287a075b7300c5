"""A demo study watched while it runs: scraped, looked at from another process, and logged."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.command import QUICK_DEMO, WITH_REPORT, Command, Outcome, saving_to

pytestmark = pytest.mark.integration

UNTIL_LOOKED = """
import pathlib, time
from heretic.observability import events

batches = []

def wait(event):
    # Behind the first batch: what was emitted before has reached every subscriber.
    if isinstance(event, events.BatchMeasured):
        batches.append(event)
    if len(batches) == 2 and isinstance(event, events.BatchMeasured):
        pathlib.Path("waiting").touch()
        while not pathlib.Path("looked").exists():
            time.sleep(0.02)

events.bus._handlers.append(wait)
"""
"""The run waits in the middle of its search, so that no test depends on how fast it is."""

STATUS = """
import sys
from heretic.cli import main
code = main(["status", "--json"])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def metrics(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def status(folder: Path) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HERETIC_")}
    result = subprocess.run(
        [sys.executable, "-c", STATUS], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


LONG_STEPS = {
    "preparing",
    "preparing/loading weights",
    "preparing/looking for a common response prefix",
    "preparing/comparing weights with their files",
    "preparing/extracting directions/collecting residuals",
    "preparing/measuring the original model's demo",
    "preparing/recording the original model's answers",
    "preparing/preparing the batched engine",
    "opening the study",
    "searching",
    "checking the front",
    "saving",
    "saving/writing weights",
    "saving/loading what was saved",
    "saving/writing checksums",
    "writing the report",
}


def steps_of(lines: list[dict[str, Any]]) -> set[str]:
    """Steps that a log tells of, each of which began within those around it, and ended."""
    running: list[str] = []
    seen: set[str] = set()
    for line in lines:
        path = [*line.get("within", ()), line.get("doing", "")]
        if line["event"] == "step_started":
            assert path[:-1] == running
            running = path
            seen.add("/".join(path))
        elif line["event"] == "step_ended":
            assert path == running
            running = running[:-1]
            assert line["done"] == line["total"], path
    assert not running
    return seen


def test_a_study_is_watched_while_it_runs(heretic: Command, tmp_path: Path) -> None:
    port = free_port()
    outcomes: list[Outcome] = []

    def run() -> None:
        arguments = ("--log-file", "heretic.log", "--metrics-port", str(port), "--metrics-file", "heretic.prom")
        arguments = (*arguments, "--candidates", "1", *WITH_REPORT, *saving_to("out"))
        outcomes.append(heretic(tmp_path, *QUICK_DEMO, *arguments, before=UNTIL_LOOKED))

    running = threading.Thread(target=run)
    running.start()
    try:
        while running.is_alive() and not (tmp_path / "waiting").exists():
            time.sleep(0.02)
        assert running.is_alive(), outcomes
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            scraped = metrics(answer.read().decode())
        in_file = metrics((tmp_path / "heretic.prom").read_text(encoding="utf-8"))
        seen = status(tmp_path)
    finally:
        (tmp_path / "looked").touch()
        running.join()
    (outcome,) = outcomes
    outcome.assert_done()
    assert outcome.errors == ""

    assert scraped["heretic_trials_total{state=complete}"] + scraped["heretic_trials_total{state=stopped}"] == 2
    assert scraped["heretic_trials_wanted"] == 2
    assert scraped["heretic_searching"] == 1
    assert scraped["heretic_tokens_per_second"] > 0
    assert scraped["heretic_host_memory_used_bytes"] > 50e6
    assert scraped["heretic_batch_size"] == 6
    assert scraped["heretic_out_of_memory_total"] == 0
    best = scraped["heretic_best_behavior{behavior=refusals}{unit=answers}"]
    assert 0 <= best <= scraped["heretic_best_behavior_prompts{behavior=refusals}"] == 6
    assert 0 <= scraped["heretic_baseline_behavior{behavior=refusals}{unit=answers}"] <= 6
    # The file is that of the batch before.
    assert in_file["heretic_tokens_total"] > 0

    assert (seen["run"], seen["model"], seen["finished"], seen["n_trials"]) == ("searching", "demo", 2, 2)
    assert seen["memory"]["host"]["used_bytes"] > 50e6
    (behavior,) = seen["best"]["behaviors"]
    assert (behavior["name"], behavior["value"], behavior["prompts"]) == ("refusals", best, 6)
    assert seen["best"]["kl"] == pytest.approx(scraped["heretic_best_behavior_kl_nats"])
    assert status(tmp_path)["run"] == "finished"

    lines = [json.loads(line) for line in (tmp_path / "heretic.log").read_text(encoding="utf-8").splitlines()]
    names = [line["event"] for line in lines]
    assert names[0] == "log_opened"
    assert names[1] == "run_started"
    assert names[-1] == "run_ended"
    assert names.count("trial_finished") == names.count("batch_measured") == 2
    assert all(line["memory"]["host"]["used_bytes"] > 0 for line in lines[1:])
    assert metrics((tmp_path / "heretic.prom").read_text(encoding="utf-8"))["heretic_searching"] == 0
    assert steps_of(lines) >= LONG_STEPS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--log-file", "gone/heretic.log"), ("log file gone/heretic.log cannot be written", "--log-file")),
        (("--metrics-file", "gone/heretic.prom"), ("metrics file gone/heretic.prom cannot be written",)),
        (("--log-file", "same", "--metrics-file", "same"), ("log_file and metrics_file name the same file",)),
    ],
)
def test_what_cannot_be_watched_is_refused_before_anything_is_loaded(
    heretic: Command, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    outcome = heretic(tmp_path, *QUICK_DEMO, *arguments)
    outcome.assert_one_sentence(*words)
    assert "Loading" not in outcome.output
    assert not (tmp_path / "heretic_study.db").exists()


def test_a_busy_port_is_refused_before_anything_is_loaded(heretic: Command, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        outcome = heretic(tmp_path, *QUICK_DEMO, "--metrics-port", str(port), "--metrics-file", "heretic.prom")
    outcome.assert_one_sentence(f"Port {port}", "--metrics-port")
    assert "Loading" not in outcome.output
    assert not (tmp_path / "heretic.prom").exists()


def test_a_run_that_fails_says_so_in_the_log(heretic: Command, tmp_path: Path) -> None:
    outcome = heretic(tmp_path, "--model", "no/such-model", "--good-prompts", "gone.txt", "--log-file", "heretic.log")
    assert outcome.code == 2
    last = json.loads((tmp_path / "heretic.log").read_text(encoding="utf-8").splitlines()[-1])
    assert (last["event"], last["level"], last["exit_code"]) == ("run_ended", "error", 2)
    assert last["error"] in outcome.errors
