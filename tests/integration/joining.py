"""A worker of a study as its own process, whose engine only takes its time: what is killed and stopped in tests."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.unit.search.studies import IDENTITY, PLAN, SPACE, record

from heretic.engine.measurement import Measurement
from heretic.observability.events import Event, SearchStarted, TrialFinished, Warned, subscribed
from heretic.observability.fields import worker_name
from heretic.observability.steps import telling
from heretic.results.gate import Gate
from heretic.results.objective import BOTH_NUMBERS
from heretic.results.plan import EditPlan
from heretic.results.trial import TrialState
from heretic.search import heartbeat, pulse
from heretic.search.claim import Turn
from heretic.search.crew import Alone
from heretic.search.loop import search
from heretic.search.sampler import make_sampler
from heretic.search.seeding import enqueue_once
from heretic.search.storage import open_study
from heretic.search.workers import Workers, workers_before

SILENCE = 2
"""Seconds after which a worker is taken for dead here."""


def _tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Sleeper:
    def __init__(self, seconds: float, candidates: int) -> None:
        self.candidates = candidates
        self._seconds = seconds

    def measure(self, plans: Sequence[EditPlan], numbers: Sequence[int], _gate: Gate) -> list[Measurement]:
        _tell("measuring", *numbers)
        time.sleep(self._seconds)
        return [
            Measurement(record(number, 50 - number % 50, 0.01 * (1 + number % 37)).scores, TrialState.COMPLETE)
            for number, _plan in zip(numbers, plans, strict=True)
        ]


def _say(event: Event) -> None:
    if isinstance(event, SearchStarted):
        _tell("searching")
    elif isinstance(event, Warned):
        _tell("warned", event.message)
    elif isinstance(event, TrialFinished):
        _tell("finished", event.record.number, event.worker or "here")


def main(url: str, name: str, n_trials: int, seconds: float, candidates: int = 1, silence: int = SILENCE) -> None:
    pulse.SILENCE_SECONDS, heartbeat.INTERVAL_SECONDS = silence, 0.2
    with Turn(url, patient=True) as turn:
        turn.take(name)
        study = open_study(url, name, IDENTITY, join=True)
        study.sampler = make_sampler(3, 4, 0, workers_before(study))
        enqueue_once(study, url, SPACE, [PLAN, PLAN], "test")
        told = heartbeat.Heartbeat(study, "none", 1, n_trials, worker=worker_name())
        workers = Workers(study, turn, BOTH_NUMBERS, told)
        turn.give()
        with subscribed(told, steps=True), subscribed(_say), telling(0.2):
            result = search(
                study, url, SPACE, Alone(Sleeper(seconds, candidates)), n_trials, heartbeat=told, workers=workers
            )
    _tell("ended", result.complete)


def main_telling(output: Path, *arguments: Any) -> None:
    """The same, with all that is said in a file."""
    with output.open("w", encoding="utf-8") as sys.stdout:
        sys.stderr = sys.stdout
        main(*arguments)
