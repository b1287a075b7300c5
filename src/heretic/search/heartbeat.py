"""The running search's side of `heretic status`: a pulse in the study's attributes, renewed every few seconds."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types
from sqlalchemy.exc import SQLAlchemyError

import heretic
from heretic.common.errors import first_line
from heretic.models.memory import USAGE, memory_use
from heretic.observability.events import (
    BatchMeasured,
    Event,
    StepEnded,
    StepEvent,
    StepGoesOn,
    StepStarted,
    Warned,
    emit,
    subscribed,
)
from heretic.observability.steps import Pace
from heretic.search.private_api import set_study_attribute
from heretic.search.pulse import Member, Pulse, process_mark, pulse_of

INTERVAL_SECONDS = 5.0
"""At most one write in so many seconds: each is a transaction, which waits for the disk."""


class Heartbeat:
    """Writes a Pulse; subscribe it with `events.subscribed`, so that the pulse says what a run does besides searching.

    Before there is a study it stands in the file of its claim. A storage that refuses it is said once and costs nothing
    else: what counts are the trials.
    """

    def __init__(
        self,
        study: optuna.Study | Path,
        model: str,
        batch_size: int,
        n_trials: int,
        slower: Sequence[str] = (),
        now: Callable[[], float] = time.time,
        worker: str = "",
        name: str = "",
    ) -> None:
        """Tell that the run prepares.

        Args:
            study: Or the file of its claim.
            model: What the user asked for.
            batch_size: Prompts per forward pass.
            n_trials: See Pulse.
            slower: See Pulse.
            now: A clock.
            worker: See Pulse.
            name: The study's, where only a file tells of it.
        """
        self._study = study
        self._now = now
        self._failed = False
        # Steps that go on are told of by a thread of their own.
        self._lock = threading.Lock()
        self._pace = Pace(now())
        self._ended = ""
        process = psutil.Process()
        self._pulse = Pulse(
            state="preparing",
            host=socket.gethostname(),
            pid=os.getpid(),
            process_started=process.create_time(),
            process_mark=process_mark(process.pid),
            version=heretic.__version__,
            model=model,
            n_trials=n_trials,
            started=now(),
            updated=0.0,
            seconds_per_trial=None,
            batch_size=batch_size,
            candidates=0,
            tokens_per_second=None,
            out_of_memory=USAGE.out_of_memory,
            slower=tuple(slower),
            worker=worker,
            study=name,
        )
        self._write()

    def search_started(self, finished: int, n_trials: int) -> None:
        """The first trial comes next; so many are finished already."""
        self._pace, self._ended = Pace(self._now(), finished), ""
        self._write(
            state="searching", n_trials=n_trials, started=self._now(), searched_until=0.0, step="", step_remaining=None
        )

    def asked(self, numbers: Sequence[int]) -> None:
        """These trials are measured now. Raises what the storage does: others end trials that nobody names."""
        with self._lock:
            self._pulse = replace(self._pulse, trials=tuple(numbers))
            self._store()

    def hears(self, crew: Sequence[Member]) -> None:
        """These processes measure at the moment."""
        if crew:
            self._write(seldom=True, crew=tuple(crew))

    def batch_measured(self, finished: int, candidates: int, batch: BatchMeasured, running: Sequence[int] = ()) -> None:
        """Some trials ended; so many are finished now, failed ones left out, and these are measured at the moment."""
        self._pace.reached(self._now(), finished)
        speed = {"seconds_per_trial": self._pace.seconds, "tokens_per_second": batch.tokens_per_second}
        self._write(seldom=True, candidates=candidates, trials=tuple(running), **speed)

    def search_ended(self, interrupted: bool) -> None:
        """No trial comes next."""
        self._ended = "interrupted" if interrupted else "finished"
        self._write(state=self._ended, searched_until=self._now(), step_remaining=None, trials=(), crew=())

    def __call__(self, event: Event) -> None:
        """Take in how far a step is; of the search only how long it still takes, and that it goes on."""
        if not isinstance(event, StepEvent):
            return
        if self._pulse.state == "searching":
            if not event.within:
                self._pulse = replace(self._pulse, step_remaining=event.remaining)
            if isinstance(event, StepGoesOn):
                # A batch may take longer than others wait for whoever is silent.
                self._write(seldom=True)
            return
        if isinstance(event, StepEnded):
            if not event.within:
                self._write(state=self._ended or self._pulse.state, step="", step_remaining=None)
            return
        state = "finishing" if self._ended else self._pulse.state
        # A file is written in a moment.
        at_once = state != self._pulse.state or (isinstance(self._study, Path) and isinstance(event, StepStarted))
        self._write(not at_once, state=state, step=event.told, step_remaining=event.remaining)

    def _write(self, seldom: bool = False, **changes: Any) -> None:
        """Change the pulse, and write it unless that is to be done seldom and was done a moment ago."""
        with self._lock:
            self._pulse = replace(self._pulse, **changes)
            if not seldom or self._now() - self._pulse.updated >= INTERVAL_SECONDS:
                self._try_to_store()

    def _store(self) -> None:
        self._pulse = replace(self._pulse, updated=self._now(), out_of_memory=USAGE.out_of_memory, memory=memory_use())
        if isinstance(self._study, Path):
            self._study.write_text(json.dumps(self._pulse.to_json()), encoding="ascii")
        else:
            set_study_attribute(self._study, pulse_of(self._pulse.worker), self._pulse.to_json())

    def _try_to_store(self) -> None:
        try:
            self._store()
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
            if not self._failed:
                emit(Warned(f"The study could not be told how the run is ({first_line(error)}); it goes on."))
            self._failed = True


def preparation_told(file: Path | None, model: str, n_trials: int, name: str) -> AbstractContextManager[None]:
    """In the with-block steps are told of in the file of a study's claim; nowhere where it has none."""
    return nullcontext() if file is None else subscribed(Heartbeat(file, model, 0, n_trials, name=name), steps=True)
