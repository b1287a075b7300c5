"""Metrics as Prometheus reads them: over HTTP, and from the file that is replaced as a whole."""

import math
import socket
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.measured import counted, divergence, kept, measured, searched, trial, words

from heretic.common.errors import UserError
from heretic.observability import events
from heretic.observability.events import Event, Warned, subscribed
from heretic.observability.fields import worker_name
from heretic.observability.metrics import Metrics, MetricsFile, served
from heretic.results.score import Scores
from heretic.results.trial import TrialState

MEMORY = {
    "host": {"used_bytes": 10, "peak_bytes": 12, "available_bytes": 90},
    "cuda:0": {"used_bytes": 3, "reserved_bytes": 4, "peak_bytes": 5, "available_bytes": 6},
    "cuda:1": {"used_bytes": 7, "reserved_bytes": 8, "peak_bytes": 9, "available_bytes": 1},
}


def parsed(text: str) -> dict[str, float]:
    """Sample -> value, e.g. ``heretic_trials_total{state=failed}``."""
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda text: text.replace("secret", "***"), lambda: MEMORY)


def values(metrics: Metrics) -> dict[str, float]:
    return parsed(generate_latest(metrics.registry).decode())


def test_before_the_first_trial_no_number_looks_like_a_good_one(metrics: Metrics) -> None:
    given = values(metrics)
    assert all(math.isnan(given[name]) for name in ("heretic_lowest_kl_nats", "heretic_best_behavior_kl_nats"))
    assert not [name for name in given if name.startswith(("heretic_best_behavior{", "heretic_baseline"))]
    assert given["heretic_trials_total{state=failed}"] == 0


def test_trials_are_counted_by_state_and_the_best_is_kept(metrics: Metrics) -> None:
    for event in (
        events.BaselineMeasured((counted(97),), 80, 1.0),
        *searched(
            trial(measured(40, 0.01), 0),
            trial(measured(3, 0.2), 1),
            trial(measured(3, 0.1), 2),
            trial(measured(0, 0.001), 3, TrialState.PRUNED, "worse by KL alone"),
            trial(None, 4, TrialState.FAILED, "memory ran out"),
            n_trials=9,
        ),
    ):
        metrics(event)
    given = values(metrics)
    assert given["heretic_trials_total{state=complete}"] == 3
    assert given["heretic_trials_total{state=stopped}"] == 1
    assert given["heretic_trials_total{state=failed}"] == 1
    assert given["heretic_trials_wanted"] == 9
    assert given["heretic_best_behavior{behavior=refusals}{unit=answers}"] == 3
    assert given["heretic_best_behavior_prompts{behavior=refusals}"] == 100
    assert given["heretic_best_behavior_kl_nats"] == 0.1
    assert given["heretic_lowest_kl_nats"] == 0.01
    assert given["heretic_baseline_behavior{behavior=refusals}{unit=answers}"] == 97
    assert given["heretic_trial_duration_seconds_count"] == 5
    assert given["heretic_searching"] == 1


def test_trials_of_an_earlier_run_count_once(metrics: Metrics) -> None:
    states = {"complete": 4, "dominated": 2, "pruned": 1, "failed": 3}
    earlier = [trial(measured(5, 0.3), 0), trial(measured(50, 0.02), 1)]
    started, ended = searched(trial(measured(9, 0.5), 10), n_trials=9, earlier=earlier)
    metrics(replace(started, states=states))
    metrics(ended)
    # More trials asked for in the menu: a second search of the same process.
    metrics(replace(started, standing=replace(started.standing, n_trials=12), states={**states, "complete": 5}))
    given = values(metrics)
    assert given["heretic_trials_total{state=complete}"] == 5
    assert given["heretic_trials_total{state=stopped}"] == 3
    assert given["heretic_trials_total{state=failed}"] == 3
    assert given["heretic_best_behavior{behavior=refusals}{unit=answers}"] == 5
    assert (given["heretic_best_behavior_kl_nats"], given["heretic_lowest_kl_nats"]) == (0.3, 0.02)
    assert given["heretic_trials_wanted"] == 12


def test_several_behaviours_have_a_number_each_and_are_those_of_one_trial(metrics: Metrics) -> None:
    def several(refusals: int, amount: float) -> Scores:
        return Scores((counted(refusals, 100, 50), words(amount, 40, 20)), divergence(0.1))

    metrics(events.BaselineMeasured(several(50, 20).behaviors, 80, 1.0))
    # Shares of 0.2 + 0.25, of 0 + 0.5, and of 0.5 + 0.
    trials = [trial(own, number) for number, own in enumerate((several(10, 5), several(0, 10), several(25, 0)))]
    for event in searched(*trials):
        metrics(event)
    given = values(metrics)
    assert given["heretic_best_behavior{behavior=refusals}{unit=answers}"] == 10
    assert given["heretic_best_behavior{behavior=words}{unit=words}"] == 5
    assert given["heretic_best_behavior_prompts{behavior=words}"] == 40
    assert given["heretic_baseline_behavior{behavior=words}{unit=words}"] == 20
    assert given["heretic_baseline_behavior{behavior=refusals}{unit=answers}"] == 50


def test_what_stays_is_a_number_of_its_own(metrics: Metrics) -> None:
    metrics(events.BaselineMeasured((counted(50, 100, 50),), 80, 1.0, (kept(0),)))
    for event in searched(trial(Scores((counted(3, 100, 50),), divergence(0.1), (kept(1, allowed=1),)))):
        metrics(event)
    given = values(metrics)
    assert given["heretic_baseline_behavior{behavior=kept_abstention}{unit=answers}"] == 38
    assert given["heretic_best_behavior{behavior=kept_abstention}{unit=answers}"] == 37
    assert given["heretic_best_behavior_prompts{behavior=kept_abstention}"] == 38


def test_speed_batch_size_and_failed_allocations(metrics: Metrics) -> None:
    metrics(events.RunStarted("1.0", "models/secret", None, None, {}))
    metrics(events.Calibrated(32, ""))
    metrics(events.BatchMeasured(4, 2.0, 100, 50.0, {}))
    metrics(events.BatchMeasured(3, 2.0, 60, 30.0, {}, "worker 2"))
    metrics(events.MemoryRanOut("measuring", {}))
    given = values(metrics)
    assert given["heretic_tokens_total"] == 160
    assert given["heretic_tokens_per_second"] == 30
    assert given["heretic_candidates"] == 3
    assert given["heretic_worker_trials_total{worker=worker 2}"] == 3
    assert given["heretic_batch_size"] == 32
    assert given["heretic_out_of_memory_total"] == 1
    assert given[f"heretic_run_info{{model=models/***}}{{version=1.0}}{{worker={worker_name()}}}"] == 1


def test_memory_is_that_of_the_moment(metrics: Metrics) -> None:
    given = values(metrics)
    assert given["heretic_host_memory_used_bytes"] == 10
    assert given["heretic_host_memory_available_bytes"] == 90
    assert given["heretic_device_memory_used_bytes{device=cuda:1}"] == 7
    assert given["heretic_device_memory_reserved_bytes{device=cuda:0}"] == 4
    MEMORY["host"]["used_bytes"] = 11
    assert values(metrics)["heretic_host_memory_used_bytes"] == 11


def test_every_name_has_its_unit_and_a_help_text(metrics: Metrics) -> None:
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        assert family.documentation
        assert family.name.startswith(("heretic_", "process_"))
        # When a series began; the command leaves these out.
        name = family.name.removesuffix("_created")
        assert "second" not in name or name.endswith(("_seconds", "_seconds_total", "_per_second"))


@pytest.fixture
def port() -> int:
    """One that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_they_are_served_until_the_end(metrics: Metrics, port: int) -> None:
    with served("127.0.0.1", port, metrics.registry):
        metrics(events.Calibrated(8, ""))
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert parsed(answer.read().decode())["heretic_batch_size"] == 8
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        urlopen(f"http://127.0.0.1:{port}/metrics")


def test_a_port_in_use_is_refused(metrics: Metrics) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"Port {port} .* another --metrics-port"),
            served("127.0.0.1", port, metrics.registry),
        ):
            pass


def test_an_address_that_is_not_ours_is_refused(metrics: Metrics, port: int) -> None:
    with pytest.raises(UserError, match="--metrics-address"), served("192.0.2.1", port, metrics.registry):
        pass


def test_the_file_is_written_at_once_and_after_every_batch(metrics: Metrics, tmp_path: Path) -> None:
    path = tmp_path / "heretic.prom"
    with subscribed(metrics), subscribed(MetricsFile(path, metrics.registry)):
        assert parsed(path.read_text())["heretic_tokens_total"] == 0
        events.emit(events.BatchMeasured(4, 2.0, 100, 50.0, {}))
        assert parsed(path.read_text())["heretic_tokens_total"] == 100
    assert [entry.name for entry in tmp_path.iterdir()] == ["heretic.prom"]


@pytest.mark.parametrize("name", ["gone/heretic.prom", ".", "a" * 5000])
def test_a_file_that_cannot_be_written_is_refused(metrics: Metrics, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="--metrics-file"):
        MetricsFile(tmp_path / name, metrics.registry)


def test_a_file_that_cannot_be_written_any_more_is_said_once(metrics: Metrics, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    seen: list[Event] = []
    with subscribed(seen.append), subscribed(MetricsFile(folder / "heretic.prom", metrics.registry)):
        (folder / "heretic.prom").unlink()
        folder.rmdir()
        for _ in range(3):
            events.emit(events.BatchMeasured(1, 1.0, 1, 1.0, {}))
        folder.mkdir()
        events.emit(events.SearchFinished(1, 1.0, False))
    (said,) = [event for event in seen if isinstance(event, Warned)]
    assert "goes on" in said.message
    assert (folder / "heretic.prom").exists()
