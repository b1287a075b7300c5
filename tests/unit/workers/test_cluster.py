"""Starting Ray, which may take too long, with something else in its place."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from heretic.common.errors import HereticError
from heretic.observability.events import Event, Warned, subscribed
from heretic.workers.cluster import connected
from heretic.workers.placement import Placement


class Slow:
    """Starts a process, and then takes too long, so many times."""

    def __init__(self, times: int) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self.asked: list[dict[str, Any]] = []
        self._times = times

    def init(self, **options: Any) -> None:
        self.asked.append(options)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        if len(self.started) <= self._times:
            raise Exception("The current node timed out during startup.\nMore of it.")

    def shutdown(self) -> None:
        pass


@pytest.mark.parametrize(("cluster", "mode"), [("", "token"), ("auto", None)])
def test_only_who_has_its_token_can_use_a_cluster_of_this_machine(
    cluster: str, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of others has the mode that they gave it."""
    modes: list[str | None] = []
    fake = SimpleNamespace(init=lambda **_options: modes.append(os.environ.get("RAY_AUTH_MODE")), shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", fake)
    # Set and taken away again, so that what the code sets does not stay behind the test.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_MODE")
    connected(Placement(2, 0.0, 3, cluster))
    assert modes == [mode]


@pytest.mark.parametrize("times", [0, 1, 2])
def test_ray_is_started_twice_at_most_and_leaves_nothing_of_a_start_that_failed(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, seen, handler = Slow(times), list[Event](), signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=slow.init, shutdown=slow.shutdown))
    try:
        with subscribed(seen.append):
            if times == 2:
                with pytest.raises(HereticError, match=r"Ray could not be started .*timed out.* --workers 1"):
                    connected(Placement(2, 0.0, 3))
            else:
                connected(Placement(2, 0.0, 3))
        assert len(slow.started) == min(times + 1, 2)
        assert [process.wait(10) for process in slow.started[:times]] == [-signal.SIGKILL] * times
        assert all(process.poll() is None for process in slow.started[times:])
        assert [type(event) for event in seen] == [Warned] * min(times, 1)
        assert signal.getsignal(signal.SIGTERM) == handler
        assert (slow.asked[0]["address"], slow.asked[0]["num_cpus"], slow.asked[0]["num_gpus"]) == ("local", 6, 0)
    finally:
        for process in slow.started:
            process.kill()
            process.wait()


def test_a_cluster_that_cannot_be_reached_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        asked.append(options)
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init, shutdown=lambda: None))
    with pytest.raises(HereticError, match=r"The Ray cluster auto cannot be reached \(Could not find"):
        connected(Placement(1, cluster="auto"))
    assert [options["address"] for options in asked] == ["auto"]
