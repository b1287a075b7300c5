"""What watches a run besides the console: log file and metrics, as the settings ask for them."""

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from heretic.common.errors import INTERRUPTED, TERMINATED, HereticError, Terminated, UserError, first_line
from heretic.config import Settings
from heretic.export.redact import publishable, redact
from heretic.observability.events import Event, RunEnded, emit, subscribed
from heretic.observability.steps import step, telling


def watched(settings: Settings, run: Callable[[], int]) -> int:
    """Run something under the eyes of all watchers that the settings name; returns its exit code.

    Raises:
        UserError: A file cannot be written, or a port cannot be used; nothing was run.
    """
    with _watchers(settings):
        started = time.perf_counter()
        try:
            code = run()
        except HereticError as error:
            emit(RunEnded(error.exit_code, time.perf_counter() - started, str(error)))
            raise
        except KeyboardInterrupt:
            emit(RunEnded(INTERRUPTED, time.perf_counter() - started, "Interrupted."))
            raise
        except Terminated:
            emit(RunEnded(TERMINATED, time.perf_counter() - started, "Terminated."))
            raise
        except Exception as error:
            seconds = time.perf_counter() - started
            emit(RunEnded(HereticError.exit_code, seconds, f"{type(error).__name__}: {error}", traceback.format_exc()))
            raise
        emit(RunEnded(code, time.perf_counter() - started))
        return code


def _memory() -> dict[str, dict[str, int]]:
    """See `models.memory.memory_use`; nothing before torch, which knows the devices, has been imported."""
    if "torch" not in sys.modules:
        return {}
    from heretic.models.memory import memory_use

    return memory_use()


@contextmanager
def _watchers(settings: Settings) -> Iterator[None]:
    # Whoever watches nothing pays for nothing, so that packages are imported where they are used.
    with ExitStack() as stack:
        if settings.log_file is not None:
            from heretic.observability.log import LogFile

            log = LogFile(Path(settings.log_file), settings.log_level, publishable, _memory)
            stack.enter_context(subscribed(stack.enter_context(log), steps=True))
        if settings.metrics_port is not None or settings.metrics_file is not None:
            _measure(settings, stack)
        stack.enter_context(telling())
        if settings.tracker is not None:
            stack.enter_context(subscribed(_tracking(settings.tracker)))
        yield


def _tracking(name: str) -> Callable[[Event], None]:
    from heretic.observability.tracker import TRACKERS, Tracking

    kind = TRACKERS.get(name)
    try:
        with step(f"Importing {kind.package}"):
            open_search = kind.load()
    except ImportError as error:
        raise UserError(
            f"The tracker {name} needs {kind.package}, which cannot be imported ({first_line(error)}); run pip install "
            f"{kind.package}, or leave out --tracker."
        ) from error
    return Tracking(name, open_search, redact)


def _measure(settings: Settings, stack: ExitStack) -> None:
    from prometheus_client import disable_created_metrics

    from heretic.observability.metrics import Metrics, MetricsFile, served

    # Series that say when a counter began; `process_start_time_seconds` tells the same.
    untyped: Any = disable_created_metrics
    untyped()
    metrics = Metrics(redact, _memory)
    # The port first: a file that another run writes is not touched where this one cannot start.
    if settings.metrics_port is not None:
        stack.enter_context(served(settings.metrics_address, settings.metrics_port, metrics.registry))
    stack.enter_context(subscribed(metrics))
    if settings.metrics_file is not None:
        stack.enter_context(subscribed(MetricsFile(Path(settings.metrics_file), metrics.registry)))
