"""Ray: where workers run. Nothing else imports it, and only where there are several."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types

from heretic.common.errors import ConfigurationError, HereticError, first_line
from heretic.config import Settings
from heretic.models.cost import USABLE
from heretic.models.devices import parked
from heretic.models.host_memory import free_host_memory
from heretic.observability.events import Warned, emit
from heretic.observability.steps import step
from heretic.results.words import plural
from heretic.run.workbench import Workbench
from heretic.search.crew import Alone, Batch, Crew
from heretic.workers.placement import ALONE, Placement, gigabytes, gpu_sizes, need_of, on_cluster, placed_here
from heretic.workers.supervisor import Supervisor, WorkerDied
from heretic.workers.worker import Assignment, Measurer, Report

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""Unless somebody said otherwise: Ray tells nobody of its use; workers, which do all the work, do not stand back."""
TOKEN = ("RAY_AUTH_MODE", "token")
"""Ray cannot listen on 127.0.0.1 alone, and before 2.59 whoever reaches a new cluster's ports may run code on it."""
OBJECT_BYTES = 200_000_000
"""Memory for what all workers get: directions and prompts."""
ATTEMPTS = 2
"""Ray gives up after 30 s, which a busy machine may need."""
_NO_START = "Ray could not be started on this machine"


class RayCluster:
    """A Cluster of Ray, on this machine or one that is there; use it as a context manager."""

    def __init__(self, placement: Placement, bench: Workbench) -> None:
        self._placement, self._bench = placement, bench

    def __enter__(self) -> "RayCluster":
        with step("starting Ray"):
            self._ray = connected(self._placement)
        try:
            check_resources(self._ray.cluster_resources(), self._placement)
            threads = self._placement.threads
            # Stays referred to: a worker that takes a dead one's place gets it as well.
            self._assignment = self._ray.put(Assignment.of(self._bench, threads))
            options = {"num_cpus": max(threads, 1), "num_gpus": self._placement.gpus, "max_restarts": 0}
            self._measurer = self._ray.remote(**options)(Measurer)
        except BaseException:
            self._ray.shutdown()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ray.shutdown()

    def hire(self, name: str) -> tuple[Any, Any]:
        """See Cluster."""
        worker = self._measurer.remote(name)
        return worker, worker.prepare.remote(self._assignment)

    def measure(self, worker: Any, batch: Batch) -> Any:
        """See Cluster."""
        return worker.measure.remote(batch)

    def wait(self, awaited: Sequence[Any], seconds: float) -> Sequence[Any]:
        """See Cluster."""
        ended: Sequence[Any] = self._ray.wait(list(awaited), num_returns=1, timeout=seconds)[0]
        return ended

    def result(self, awaited: Any) -> Report:
        """See Cluster."""
        errors = self._ray.exceptions
        try:
            report: Report = self._ray.get(awaited)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, HereticError):
                raise cause from None
            raise HereticError(f"a worker failed with {type(cause).__name__}: {first_line(cause)}") from error
        except errors.RayError as error:
            raise WorkerDied(first_line(error).rstrip(".")) from error
        return report

    def dismiss(self, worker: Any) -> None:
        """See Cluster."""
        self._ray.kill(worker, no_restart=True)


def connected(placement: Placement) -> Any:
    """Ray, connected to a cluster: that of the placement, or a new one on this machine.

    Raises:
        HereticError: It cannot be started or reached.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if placement.cluster:
        options["address"] = placement.cluster
    else:
        os.environ.setdefault(*TOKEN)
        options |= {
            "address": "local",
            "num_cpus": placement.workers * max(placement.threads, 1),
            "include_dashboard": False,
            "object_store_memory": OBJECT_BYTES,
        }
        if not placement.gpus:
            options["num_gpus"] = 0
    before = set(psutil.Process().children())
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            with _own_signals():
                ray.init(**options)
            break
        except Exception as error:  # Ray raises a bare Exception where it takes too long
            ray.shutdown()
            # It forgets what it had started by then, which would take time from the next attempt.
            for child in set(psutil.Process().children()) - before:
                child.kill()
            if not attempts_left or isinstance(error, ConnectionError):
                where = f"The Ray cluster {placement.cluster} cannot be reached" if placement.cluster else _NO_START
                raise HereticError(
                    f"{where} ({first_line(error)}); run the same command again, or with --workers 1."
                ) from error
            emit(Warned(f"Ray did not start ({first_line(error)}); trying once more."))
    return ray


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what SIGTERM does: Ray would have it end the process without unwinding, also once Ray is gone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def check_resources(resources: Mapping[str, float], placement: Placement) -> None:
    """Refuse what a cluster would wait for silently, and for ever.

    Raises:
        ConfigurationError: Says how many workers it has room for.
    """
    rooms = [int(resources.get("CPU", 0.0) // max(placement.threads, 1))]
    rooms += [int((resources.get("GPU", 0.0) + 1e-9) // placement.gpus)] if placement.gpus else []
    if min(rooms) < placement.workers:
        gpus = f" and {placement.gpus:g} GPUs" if placement.gpus else ""
        raise ConfigurationError(
            f"{placement.workers} workers of {plural(max(placement.threads, 1), 'core')}{gpus} each were asked for, "
            f"but the Ray cluster has {resources.get('CPU', 0.0):g} cores and {resources.get('GPU', 0.0):g} GPUs; use "
            f"--workers {max(min(rooms), 1)}, or give the cluster more."
        )


def place(settings: Settings) -> Placement:
    """The workers that a run is to have; looked at before anything is loaded.

    Raises:
        ConfigurationError: They do not fit.
        HereticError: Their cluster cannot be reached.
    """
    if settings.workers == 1:
        return ALONE
    wanted = None if settings.workers == "auto" else settings.workers
    placement = placed_here(settings, wanted) if settings.ray_address is None else _placed_there(settings, wanted)
    if placement.gpus <= 1 or placement.is_alone:
        return placement
    if obstacle := _cannot_wait(settings):
        if wanted is None:
            emit(Warned(f"One process measures, spread over all GPUs: {obstacle}."))
            return ALONE
        raise ConfigurationError(f"{obstacle}; use --workers 1, or several runs with --join, each with its own GPUs.")
    return placement


def _cannot_wait(settings: Settings) -> str:
    """Why the model of the run that leads cannot leave the GPUs to workers that take several; empty where it can."""
    if settings.quantization != "none":
        return "quantised weights of the run that leads stay on the GPUs that workers of several GPUs each would take"
    need, free = need_of(settings), free_host_memory()
    if need <= USABLE * free:
        return ""
    return (
        f"the model of the run that leads would wait in the host's memory while workers have the GPUs, for which about "
        f"{gigabytes(need)} are needed and {gigabytes(free)} are free"
    )


def _placed_there(settings: Settings, wanted: int | None) -> Placement:
    address = settings.ray_address or ""
    ray = connected(Placement(1, cluster=address))
    try:
        resources = ray.cluster_resources()
    finally:
        ray.shutdown()
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    placement = on_cluster(wanted, need_of(settings), gpu_sizes(settings), address, cores, gpus)
    check_resources(resources, placement)
    return placement


@contextmanager
def crew_of(bench: Workbench, placement: Placement) -> Iterator[Crew]:
    """Who measures in the with-block; Ray runs no longer than that."""
    if placement.is_alone:
        yield Alone(bench.engine)
        return
    # Memory that workers may need.
    bench.engine.rest()
    with parked(bench.loaded.model, bench.loaded.device), RayCluster(placement, bench) as cluster:
        supervisor = Supervisor(cluster, placement.workers, bench.baselines)
        with step("starting workers"):
            while not supervisor.free:
                supervisor.finished()
        yield supervisor
