"""Trials as trackers of experiments get them; with the real programs in a slow test."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.export.other_programs import install, run
from tests.unit.measured import searched, trial

from heretic.common.errors import PluginError, UserError
from heretic.config import Settings
from heretic.interface.watching import watched
from heretic.observability import tracker
from heretic.observability.events import Event, RunEnded, RunStarted, StudyOpened, TrialFinished, Warned, subscribed
from heretic.observability.tracker import Tracked, TrackerKind, Tracking, TrackingError
from heretic.results.trial import TrialState

STARTED = RunStarted("1.0", "owner/secret-model", None, None, {"n_trials": "3 (command line)"})
OPENED = StudyOpened("mine", "sqlite:///study.db", 0, 3)
TRIALS = searched(trial(number=0), trial(number=1, state=TrialState.FAILED, reason="it broke"))
EVENTS = [STARTED, OPENED, *TRIALS, RunEnded(0, 1.0)]


class Kept:
    """Keeps what it is sent; after so many trials it takes no more."""

    def __init__(self, takes: int = 10) -> None:
        self.sent: list[object] = []
        self._takes = takes

    def open(self, study: str, facts: Mapping[str, str]) -> "Kept":
        self.sent.append((study, dict(facts)))
        return self

    def trial(self, tracked: Tracked) -> None:
        if tracked.number > self._takes:
            raise TrackingError("its server is gone")
        self.sent.append(tracked)

    def end(self, code: int) -> None:
        self.sent.append(code)


def follow(kept: Kept, events: list[Event]) -> list[str]:
    """What is warned of while a tracker follows a run."""
    warned: list[str] = []
    tracking = Tracking("kept", kept.open, lambda text: text.replace("secret", "***"))
    with subscribed(lambda event: warned.append(event.message) if isinstance(event, Warned) else None):
        for event in events:
            tracking(event)
    return warned


def test_a_search_is_sent_with_its_facts_its_trials_and_its_end() -> None:
    kept = Kept()
    assert follow(kept, EVENTS) == []
    search, first, second, code = kept.sent
    assert search == ("mine", {"heretic": "1.0", "model": "owner/***-model", "n_trials": "3 (command line)"})
    assert isinstance(first, Tracked)
    assert (first.number, first.state, first.on_front, first.seconds) == (1, "complete", True, 1.84)
    assert first.measured == {"refusals": 3, "kl": 0.0123}
    peaks = {name: value for name, value in first.parameters.items() if name.endswith(".peak_weight")}
    assert peaks
    assert all(isinstance(value, float) for value in peaks.values())
    assert isinstance(second, Tracked)
    assert (second.number, second.state, second.reason, second.measured) == (2, "failed", "it broke", {})
    assert code == 0


def test_trials_of_another_run_are_its_own_to_send() -> None:
    kept = Kept()
    theirs = [replace(event, of_another=True) if isinstance(event, TrialFinished) else event for event in TRIALS]
    follow(kept, [STARTED, OPENED, *theirs])
    assert len(kept.sent) == 1


def test_a_tracker_that_fails_is_told_of_once_and_left_alone() -> None:
    kept = Kept(takes=0)
    assert follow(kept, EVENTS) == ["kept is sent nothing more (its server is gone); the run goes on without."]
    assert len(kept.sent) == 1


def never() -> int:
    raise AssertionError("nothing runs")


def missing() -> Callable[..., Kept]:
    raise ImportError("No module named 'tracked'")


def test_what_is_not_installed_or_unknown_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tracker.TRACKERS._entries, "lost", TrackerKind(missing, "tracked"))
    with pytest.raises(UserError, match="run pip install tracked, or leave out --tracker"):
        watched(Settings(tracker="lost"), never)
    with pytest.raises(PluginError, match="no tracker named mlfow; did you mean mlflow"):
        watched(Settings(tracker="mlfow"), never)


def test_a_run_is_followed_by_the_tracker_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    monkeypatch.setitem(tracker.TRACKERS._entries, "kept", TrackerKind(lambda: kept.open, "kept"))

    def search() -> int:
        from heretic.observability.events import emit

        for event in EVENTS[:-1]:
            emit(event)
        return 3

    assert watched(Settings(tracker="kept"), search) == 3
    assert [type(sent) for sent in kept.sent] == [tuple, Tracked, Tracked, int]
    assert kept.sent[-1] == 3


FOLLOW = """
import json, sys
sys.path.append(sys.argv[2])
from tests.unit.observability.test_tracker import EVENTS
from heretic.observability.tracker import TRACKERS, Tracking
tracking = Tracking("it", TRACKERS.get(sys.argv[1]).load(), str)
for event in EVENTS:
    tracking(event)
"""
READ = """
from mlflow import MlflowClient
client = MlflowClient()
runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
found = {run.info.run_name: [run.info.status, run.data.metrics, run.data.params, run.data.tags] for run in runs}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_mlflow_has_a_run_a_trial(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    install(installed, "uv", "pip", "install", "--python", sys.executable, "--target", str(installed), "mlflow-skinny")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}", "PYTHONPATH": _paths()}
    text = run(tmp_path, sys.executable, "-c", FOLLOW + READ, "mlflow", str(installed), environment=environment)
    runs = json.loads(text.splitlines()[-1])
    assert sorted(runs) == ["search", "trial 1", "trial 2"]
    status, metrics, parameters, tags = runs["trial 1"]
    assert (status, metrics) == ("FINISHED", {"refusals": 3, "kl": 0.0123, "seconds": 1.84})
    assert parameters["mlp.peak_weight"] == "1.25"
    assert (tags["state"], tags["on_front"]) == ("complete", "True")
    assert runs["trial 2"][0] == "FAILED"
    assert runs["search"][0] == "FINISHED"
    assert runs["search"][3]["n_trials"] == "3 (command line)"


@pytest.mark.slow
def test_weights_and_biases_keeps_a_run_offline(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    install(installed, "uv", "pip", "install", "--python", sys.executable, "--target", str(installed), "wandb")
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "PYTHONPATH": _paths()}
    run(tmp_path, sys.executable, "-c", FOLLOW, "wandb", str(installed), environment=environment)
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    for said in (b"refusals", b"plan/mlp.peak_weight", b"it broke", b"owner/secret-model"):
        assert said in content


def _paths() -> str:
    return os.pathsep.join(filter(None, (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", ""))))
