"""The running search's side of `heretic status`: a pulse in the study's attributes, renewed every few seconds."""

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import optuna
import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types
from sqlalchemy.exc import SQLAlchemyError

import heretic
from heretic.common.errors import first_line
from heretic.models.memory import USAGE, memory_use
from heretic.observability.events import BatchMeasured, Warned, emit
from heretic.search.private_api import set_study_attribute
from heretic.search.pulse import PULSE_ATTRIBUTE, Pulse, process_mark

INTERVAL_SECONDS = 5.0
"""At most one write in so many seconds: each is a transaction, which waits for the disk."""

_PACE_BATCHES = 30


class Heartbeat:
    """Writes a Pulse. A storage that refuses it is said once and costs nothing else: what counts are the trials."""

    def __init__(
        self,
        study: optuna.Study,
        model: str,
        batch_size: int,
        n_trials: int,
        slower: Sequence[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._study = study
        self._now = now
        self._failed = False
        self._ends: deque[tuple[float, int]] = deque(maxlen=_PACE_BATCHES + 1)
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
        )
        self._write()

    def search_started(self, finished: int, n_trials: int) -> None:
        """The first trial comes next; so many are finished already."""
        self._ends.append((self._now(), finished))
        self._pulse = replace(self._pulse, state="searching", n_trials=n_trials, started=self._now())
        self._write()

    def batch_measured(self, finished: int, candidates: int, batch: BatchMeasured) -> None:
        """Some trials ended; so many are finished now, failed ones left out."""
        self._ends.append((self._now(), finished))
        (first, before), (last, after) = self._ends[0], self._ends[-1]
        self._pulse = replace(
            self._pulse,
            seconds_per_trial=(last - first) / (after - before) if after > before else None,
            candidates=candidates,
            tokens_per_second=batch.tokens_per_second,
        )
        if self._now() - self._pulse.updated >= INTERVAL_SECONDS:
            self._write()

    def search_ended(self, interrupted: bool) -> None:
        """No trial comes next."""
        self._pulse = replace(self._pulse, state="interrupted" if interrupted else "finished")
        self._write()

    def _write(self) -> None:
        self._pulse = replace(self._pulse, updated=self._now(), out_of_memory=USAGE.out_of_memory, memory=memory_use())
        try:
            set_study_attribute(self._study, PULSE_ATTRIBUTE, self._pulse.to_json())
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if not self._failed:
                emit(Warned(f"The study could not be told how the run is ({first_line(error)}); it goes on."))
            self._failed = True
