"""Ctrl+C as a person presses it: real signals, in the middle of printing, once and twice."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from heretic.observability.events import Event, SearchFinished, Warned, emit, subscribed
from heretic.search.interruption import InterruptGuard


@pytest.fixture(autouse=True)
def _python_handles_ctrl_c() -> Iterator[None]:
    """Whatever started the tests may have told them to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_subscriber_that_is_interrupted_is_never_called_again_inside_itself() -> None:
    """A console in the middle of a line would print into it, or wait for its own lock for ever."""
    printing, seen, nested = threading.Lock(), [], []

    def subscriber(event: Event) -> None:
        inside = printing.locked() and threading.current_thread() is threading.main_thread()
        if inside:
            nested.append(event)
            return
        with printing:
            if isinstance(event, SearchFinished):
                interrupt()
            seen.append(event)

    with subscribed(subscriber), InterruptGuard() as guard:
        assert not guard.requested
        emit(SearchFinished(0, 0.0, False))
        assert guard.requested
    assert nested == []
    assert [type(event) for event in seen] == [SearchFinished, Warned]


def test_the_second_interrupt_raises_at_once_and_the_first_is_reported_once() -> None:
    seen: list[Event] = []
    reached = []

    def press_twice() -> None:
        with InterruptGuard():
            interrupt()
            reached.append(1)
            interrupt()
            reached.append(2)

    with subscribed(seen.append), pytest.raises(KeyboardInterrupt):
        press_twice()
    assert reached == [1]
    assert len(seen) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_is_said_and_no_thread_stays() -> None:
    seen: list[Event] = []
    threads = threading.active_count()
    with subscribed(seen.append), InterruptGuard() as guard:
        pass
    assert not guard.requested
    assert seen == []
    assert threading.active_count() == threads
    with pytest.raises(KeyboardInterrupt):
        interrupt()


@pytest.mark.parametrize("previous", [signal.SIG_DFL, signal.SIG_IGN])
def test_any_previous_handler_is_put_back(previous: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, previous)
    with InterruptGuard() as guard:
        interrupt()
        assert guard.requested
    assert signal.getsignal(signal.SIGINT) is previous


def test_a_handler_that_was_not_installed_from_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python says None for it, and does not take None back."""
    installed = signal.getsignal(signal.SIGINT)
    real = signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    with InterruptGuard() as guard:
        assert real(signal.SIGINT) is installed
    assert real(signal.SIGINT) is installed
    assert not guard.requested


TRIAL = """
import signal, sys, time
from heretic.interface.console import ConsoleReporter
from heretic.observability.events import subscribed
from heretic.search.interruption import InterruptGuard
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with ConsoleReporter(False) as reporter, subscribed(reporter), InterruptGuard() as guard:
        print("measuring", flush=True)
        while True:
            time.sleep(0.01)
except KeyboardInterrupt:
    print("stopped at once", flush=True)
    sys.exit(130)
"""


def test_a_running_trial_acknowledges_the_first_and_stops_at_the_second() -> None:
    process = subprocess.Popen([sys.executable, "-c", TRIAL], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "measuring\n"
        process.send_signal(signal.SIGINT)
        # Said while the trial is still running, not after it.
        assert "press Ctrl+C again to stop at once" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "stopped at once\n"
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
