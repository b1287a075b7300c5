"""Metrics: numbers of the run for Prometheus, served over HTTP or written for node_exporter's textfile collector."""

import errno
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server, write_to_textfile
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from heretic.common.errors import UserError
from heretic.observability import events
from heretic.observability.events import Event, Warned, emit
from heretic.observability.fields import worker_name
from heretic.results.front import Standing
from heretic.results.score import Score
from heretic.results.trial import TrialState

_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

Redact = Callable[[str], str]
"""Takes secrets out of a text."""


class Metrics:
    """Follows a run's events in a registry of its own; subscribe it with `events.subscribed`.

    Attributes:
        registry: What is served; `memory` is asked anew at every look.
    """

    def __init__(self, redact: Redact, memory: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        self.registry = registry = CollectorRegistry()
        self._redact = redact
        self._resumed = False
        self._info = Info("heretic_run", "What runs.", registry=registry)
        self._trials = Counter(
            "heretic_trials", "Trials that ended, those of resumed runs included.", ["state"], registry=registry
        )
        for state in TrialState:
            self._trials.labels(state.outcome)
        self._wanted = Gauge(
            "heretic_trials_wanted",
            "Measured trials wanted in all; NaN for as many as there is time for.",
            registry=registry,
        )
        self._amount = Gauge(
            "heretic_best_behavior",
            "How much of a behaviour the trial with the least of all behaviours shows: answers, or a mean amount.",
            ["behavior", "unit"],
            registry=registry,
        )
        self._prompts = Gauge(
            "heretic_best_behavior_prompts", "Out of how many answers.", ["behavior"], registry=registry
        )
        self._kl_of_best = Gauge("heretic_best_behavior_kl_nats", "KL divergence of that trial.", registry=registry)
        self._kl = Gauge("heretic_lowest_kl_nats", "Lowest KL divergence of a complete trial.", registry=registry)
        self._baseline = Gauge(
            "heretic_baseline_behavior",
            "How much of a behaviour the original model shows.",
            ["behavior", "unit"],
            registry=registry,
        )
        self._seconds = Histogram(
            "heretic_trial_duration_seconds",
            "Time of a trial; trials of one batch share its time.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter("heretic_tokens", "Tokens that trials had the model read or write.", registry=registry)
        self._rate = Gauge("heretic_tokens_per_second", "The same by second, in the last batch.", registry=registry)
        self._by_worker = Counter(
            "heretic_worker_trials", "Trials that each process of a run measured.", ["worker"], registry=registry
        )
        self._batch_size = Gauge("heretic_batch_size", "Prompts of a forward pass, as calibrated.", registry=registry)
        self._candidates = Gauge("heretic_candidates", "Trials measured at once, in the last batch.", registry=registry)
        self._out_of_memory = Counter("heretic_out_of_memory", "Allocations that failed.", registry=registry)
        self._warnings = Counter("heretic_warnings", "Warnings that were shown.", registry=registry)
        self._searching = Gauge("heretic_searching", "1 while trials run.", registry=registry)
        for gauge in (self._kl_of_best, self._kl):
            # 0 would read as the best there can be.
            gauge.set(math.nan)
        registry.register(_MemoryCollector(memory))
        ProcessCollector(registry=registry)

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, events.TrialFinished):
            self._trial_finished(event)
        elif isinstance(event, events.BatchMeasured):
            self._tokens.inc(event.tokens)
            self._rate.set(event.tokens_per_second)
            self._candidates.set(event.trials)
            if event.worker:
                self._by_worker.labels(event.worker).inc(event.trials)
        elif isinstance(event, events.MemoryRanOut):
            self._out_of_memory.inc()
        elif isinstance(event, (events.Warned, events.NothingShown)):
            self._warnings.inc()
        else:
            self._step(event)

    def _step(self, event: Event) -> None:
        """What happens once, or a few times, in a run."""
        if isinstance(event, events.RunStarted):
            self._info.info({"version": event.version, "model": self._redact(event.model), "worker": worker_name()})
        elif isinstance(event, events.Calibrated):
            self._batch_size.set(event.batch_size)
        elif isinstance(event, events.BaselineMeasured):
            for score in (*event.behaviors, *event.kept):
                # Of the original itself the value is the baseline.
                self._baseline.labels(score.name, _unit(score)).set(score.told)
        elif isinstance(event, events.SearchStarted):
            self._search_started(event)
        elif isinstance(event, events.SearchFinished):
            self._searching.set(0)

    def _search_started(self, event: events.SearchStarted) -> None:
        self._searching.set(1)
        if not self._resumed:
            # A second search of the same run has counted its trials itself.
            self._resumed = True
            for state, count in event.states.items():
                self._trials.labels(TrialState(state).outcome).inc(count)
        self._stands(event.standing)

    def _trial_finished(self, event: events.TrialFinished) -> None:
        if not event.of_another:
            # Another run counts its own.
            self._seconds.observe(event.record.seconds)
            self._trials.labels(event.record.state.outcome).inc()
        self._stands(event.standing)

    def _stands(self, standing: Standing) -> None:
        self._wanted.set(math.nan if standing.is_open else standing.n_trials)
        if standing.best is not None and standing.lowest_kl is not None:
            for score in standing.best.measured.of_answers:
                self._amount.labels(score.name, _unit(score)).set(score.told)
                self._prompts.labels(score.name).set(score.n)
            self._kl_of_best.set(standing.best.kl.value)
            self._kl.set(standing.lowest_kl)


def _unit(score: Score) -> str:
    return score.unit or "answers"


class _MemoryCollector(Collector):
    """Asks at every look, so that the numbers are true in the middle of a long step too."""

    def __init__(self, memory: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        self._memory = memory

    def collect(self) -> Iterable[Metric]:
        """See Collector."""
        use = self._memory()
        host = use.get("host", {})
        for name, text in _AMOUNTS.items():
            if name in host:
                yield GaugeMetricFamily(f"heretic_host_memory_{name}", f"Host memory: {text}.", value=host[name])
            family = GaugeMetricFamily(f"heretic_device_memory_{name}", f"Device memory: {text}.", labels=["device"])
            for place, amounts in use.items():
                if place != "host" and name in amounts:
                    family.add_metric([place], amounts[name])
            if family.samples:
                yield family


_AMOUNTS = {
    "used_bytes": "used by this process",
    "reserved_bytes": "held by this process for what comes next, used included",
    "peak_bytes": "the most that this process ever used",
    "available_bytes": "what can still be allocated",
}


class MetricsFile:
    """Writes the registry after every batch of trials and at every step of a run; subscribe it behind the Metrics.

    The file is replaced as a whole, so that nobody reads half of it.
    """

    def __init__(self, path: Path, registry: CollectorRegistry) -> None:
        """Write it for the first time.

        Raises:
            UserError: It cannot be written.
        """
        self._path = path.expanduser()
        self._registry = registry
        self._failed = False
        if os.path.exists(self._path) and not os.path.isfile(self._path):
            raise UserError(f"The metrics file {path} is no file; name another one with --metrics-file.")
        try:
            self._write()
        except OSError as error:
            raise UserError(
                f"The metrics file {path} cannot be written ({error.strerror}); name another one with --metrics-file."
            ) from error

    def __call__(self, event: Event) -> None:
        """Write, unless the event is one of many."""
        if isinstance(event, _MANY) or (self._failed and isinstance(event, Warned)):
            return
        try:
            self._write()
        except OSError as error:
            if not self._failed:
                self._failed = True
                emit(Warned(f"The metrics file {self._path} cannot be written ({error.strerror}); the run goes on."))

    def _write(self) -> None:
        write_to_textfile(str(self._path), self._registry)


_MANY = (events.ResponseMeasured, events.GradientStep, events.TrialFinished, events.LibraryLogged)


@contextmanager
def served(address: str, port: int, registry: CollectorRegistry) -> Iterator[None]:
    """Serve a registry over HTTP during the with-block.

    Raises:
        UserError: The port or the address cannot be used.
    """
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise UserError(_unusable(address, port, error)) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _unusable(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {address} is used by another program; choose another --metrics-port."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be used by this user; choose a --metrics-port above 1023."
    return f"Metrics cannot be served on {address} ({error.strerror or error}); check --metrics-address."
