"""How a study is, read from its storage while a run writes to it; imports no torch, so that the answer comes at once.

Only ever reads: of a SQLite file each look holds the shared lock for as long as the trials take to read.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from heretic.common.errors import StudyError, causes
from heretic.config.study import sqlite_file
from heretic.results.front import least, pareto_front
from heretic.results.trial import TrialRecord, shown
from heretic.search.private_api import study_attributes
from heretic.search.pulse import RUNNING, Pulse, run_state
from heretic.search.records import records_of, unreadable_text
from heretic.search.servers import LOCK_WAIT_SECONDS
from heretic.search.storage import (
    EARLIER_NAME,
    IDENTITY_ATTRIBUTE,
    claim_file,
    claim_files,
    shown_url,
    storage_errors,
)
from heretic.search.told import pulses_of, read_pulse, read_pulses, studies_of, told_in

_TOLD = (
    "model",
    "pid",
    "host",
    "seconds_per_trial",
    "tokens_per_second",
    "batch_size",
    "candidates",
    "out_of_memory",
    "device",
)


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """One look at a study.

    Attributes:
        name: The study's name.
        storage: Its storage, without password.
        run: ``preparing``, ``searching``, ``finishing`` (what comes after the search), ``finished``, ``interrupted``
            (ended by the user), ``gone`` (its process is not there any more, though it never said so), or ``unknown``
            where no run has told anything.
        pulse: What the last run told, or None.
        trials: Number of trials: complete, stopped, failed, running, waiting.
        front: The Pareto front, least of the (first) behaviour first.
        seen: When this was read, in seconds since 1970.
        notes: What of the study could not be read, in sentences.
        studies: Every study of the storage, by name, with its run as above.
        workers: What each of several told that may work on it, the latest last; `pulse` is that of one of them.
    """

    name: str
    storage: str
    run: str
    pulse: Pulse | None
    trials: Mapping[str, int]
    front: tuple[TrialRecord, ...]
    seen: float
    notes: tuple[str, ...] = ()
    studies: Mapping[str, str] = field(default_factory=dict)
    workers: tuple[Pulse, ...] = ()

    def or_newer(self, preparing: "StudyStatus | None") -> "StudyStatus":
        """The same, but for its run what one tells that prepares this study, where that is newer."""
        told = 0.0 if self.pulse is None else self.pulse.updated
        if preparing is None or preparing.pulse is None or preparing.name != self.name:
            return self
        newer = preparing.pulse.updated > told
        return replace(self, run=preparing.run, pulse=preparing.pulse) if newer else self

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the least of all behaviours, then the lowest KL."""
        return least(self.front)

    @property
    def finished(self) -> int:
        """Measured trials, stopped ones included."""
        return self.trials["complete"] + self.trials["stopped"]

    @property
    def is_running(self) -> bool:
        """Whether a run works on it, as far as one can tell."""
        return self.run in RUNNING

    @property
    def heard_seconds(self) -> float | None:
        """Seconds since the run told something."""
        return None if self.pulse is None else max(self.seen - self.pulse.updated, 0.0)

    @property
    def elapsed_seconds(self) -> float | None:
        """Seconds that the run has searched, up to now or to its end."""
        if self.pulse is None or self.run == "preparing":
            return None
        ended = self.pulse.searched_until or self.pulse.updated
        return max((self.seen if self.run == "searching" else ended) - self.pulse.started, 0.0)

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds until the last trial by the present pace, or the end of its time; None where neither is known."""
        pulse, seconds = self.pulse, []
        if pulse is None or self.run != "searching":
            return None
        searching = [one for one in self.workers if self.run_of(one) == "searching"] or [pulse]
        pace = sum(1 / one.seconds_per_trial for one in searching if one.seconds_per_trial)
        if pace and pulse.counts_trials:
            seconds.append(max(pulse.n_trials - self.finished, 0) / pace)
        if pulse.step_remaining is not None:
            seconds.append(max(pulse.step_remaining - (self.heard_seconds or 0.0), 0.0))
        return min(seconds, default=None)

    def run_of(self, worker: Pulse) -> str:
        """How a worker is: as `run`, or ``silent`` where others take it for dead, as nothing was heard of it."""
        run = run_state(worker)
        return "silent" if run in RUNNING and self.seen - worker.updated > worker.patience else run

    def to_json(self) -> dict[str, Any]:
        """What ``heretic status --json`` prints; keys are only ever added. Trials are numbered as people see them."""
        pulse = self.pulse
        front = [_trial_json(record) for record in self.front]
        return {
            "study": self.name,
            "storage": self.storage,
            "studies": [{"study": name, "run": run} for name, run in self.studies.items()],
            "run": self.run,
            "notes": list(self.notes),
            **{name: getattr(pulse, name, None) for name in _TOLD},
            "trials": dict(self.trials),
            "finished": self.finished,
            "n_trials": None if pulse is None or not pulse.counts_trials else pulse.n_trials,
            "best": None if self.best is None else _trial_json(self.best),
            "front": front,
            "step": "" if pulse is None or not self.is_running else pulse.step,
            "step_remaining_seconds": None if pulse is None or not self.is_running else pulse.step_remaining,
            "elapsed_seconds": self.elapsed_seconds,
            "remaining_seconds": self.remaining_seconds,
            "heard_seconds": self.heard_seconds,
            "slower": [] if pulse is None else list(pulse.slower),
            "memory": {} if pulse is None else {place: dict(amounts) for place, amounts in pulse.memory.items()},
            "workers": [
                {
                    "worker": worker.worker,
                    "run": self.run_of(worker),
                    "trials": [shown(number) for number in worker.trials],
                    "heard_seconds": max(self.seen - worker.updated, 0.0),
                    **{name: getattr(worker, name) for name in _TOLD},
                    "memory": {place: dict(amounts) for place, amounts in worker.memory.items()},
                }
                for worker in self.workers
            ],
        }


def _trial_json(record: TrialRecord) -> dict[str, Any]:
    first = record.behaviors[0]
    return {
        "trial": record.shown,
        "counted": first.name,
        "count": int(first.value) if first.counts_answers else first.value,
        "prompts": first.n,
        "baseline": int(first.baseline) if first.counts_answers else first.baseline,
        "behaviors": [
            {
                "name": score.name,
                "value": score.value,
                "unit": score.unit or "answers",
                "prompts": score.n,
                "baseline": score.baseline,
            }
            for score in record.behaviors
        ],
        "kept": [{"name": kept.name, "count": int(kept.told), "prompts": kept.n} for kept in record.measured.kept],
        "kl": record.kl.value,
    }


class StudyReader:
    """Reads one study, again and again if wanted. Close it, or use it as a context manager."""

    def __init__(self, url: str, name: str | None, or_running: bool = False) -> None:
        """Open the storage for reading.

        Args:
            url: The storage.
            name: The study; None for the one that runs, else the one that was heard of last.
            or_running: Whether another study of the storage is read where that one is not there, or does not run and
                the other does.

        Raises:
            StudyError: There is no such storage or study, or it cannot be read.
        """
        self._url = url
        self._shown = shown_url(url)
        file = sqlite_file(url)
        if file is not None and not file.exists():
            raise StudyError(
                f"There is no study file {file}; run 'heretic MODEL' first, or name the database with --storage."
            )
        try:
            with self._errors():
                self._storage = optuna.storages.RDBStorage(
                    url, engine_kwargs=_reading_options(file), skip_table_creation=True, skip_compatibility_check=True
                )
        except StudyError as error:
            # Only what is not there yet would be written when a storage is opened.
            unfinished = file is not None and any("readonly" in str(cause) for cause in causes(error))
            if not (unfinished or (file is not None and file.stat().st_size == 0)):
                raise
            raise StudyError(
                f"The study file {file} is not finished: a run has only begun to make it, or was ended while it did; "
                "look again in a moment, or run the same command again."
            ) from error
        try:
            with self._errors():
                self.name = self._usual(name) if or_running or name is None else name
                self._study = optuna.load_study(study_name=self.name, storage=self._storage)
        except KeyError as error:
            message = self._missing()
            self.close()
            raise StudyError(message) from error
        except StudyError:
            self.close()
            raise

    def __enter__(self) -> "StudyReader":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def study(self) -> optuna.Study:
        """The study, to be read from while the reader is open."""
        return self._study

    @property
    def storage(self) -> optuna.storages.RDBStorage:
        """Where the study is, to be read from likewise."""
        return self._storage

    def attributes(self) -> dict[str, Any]:
        """What is stored with the study; raises as `read`."""
        with self._errors():
            return study_attributes(self._study)

    def close(self) -> None:
        """Let the storage go."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def read(self) -> StudyStatus:
        """Look at the study as it is now.

        Raises:
            StudyError: It cannot be read, or was not made by Heretic.
        """
        with self._errors():
            attributes = study_attributes(self._study)
            trials = self._study.get_trials(deepcopy=False)
            studies = studies_of(self._storage)
        if trials and IDENTITY_ATTRIBUTE not in attributes:
            raise StudyError(
                f"The study {self.name} in {self._shown} was not made by Heretic; name another --study-name."
            )
        return status_of(self.name, self._shown, attributes, trials, studies)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with storage_errors(self._url):
                yield
        finally:
            # A transaction that stays open would keep a server's snapshot, and hide what is new.
            if hasattr(self, "_storage"):
                self._storage.remove_session()

    def _usual(self, name: str | None) -> str:
        """The named study, or, where that does not run, the first that does, else the one that was heard of last."""
        pulses = pulses_of(self._storage)
        running = [study for study, pulse in pulses.items() if run_state(pulse) in RUNNING]
        if running:
            return name if name in running else running[0]
        if name in pulses:
            return name
        # The newest of those of which nothing was ever heard.
        latest = max(
            reversed(pulses), key=lambda study: 0.0 if (pulse := pulses[study]) is None else pulse.updated, default=""
        )
        return latest or name or EARLIER_NAME

    def _missing(self) -> str:
        with self._errors():
            names = list(studies_of(self._storage))
        others = f"it holds {', '.join(names)}; name one with --study-name" if names else "it holds none"
        return f"There is no study {self.name} in {self._shown}: {others}."


def status_of(
    name: str, storage: str, attributes: Mapping[str, Any], trials: Sequence[FrozenTrial], studies: Mapping[str, str]
) -> StudyStatus:
    """What a study's attributes and trials say, as far as they can be read.

    Args:
        name: The study's.
        storage: Its storage, without password.
        attributes: The study's own.
        trials: All of them.
        studies: See StudyStatus.
    """
    records = records_of(trials)
    pulse, problem = read_pulse(attributes)
    return StudyStatus(
        name,
        storage,
        run_state(pulse),
        pulse,
        _counts([trial.state for trial in trials], records),
        tuple(pareto_front(records)),
        time.time(),
        tuple(filter(None, (problem, unreadable_text(records)))),
        studies,
        tuple(each for pulse in read_pulses(attributes)[0] for each in pulse.each if each.worker),
    )


def preparing_status(url: str, name: str | None) -> StudyStatus | None:
    """How a run is that prepares a study in a SQLite file, which need not be there yet; None where none does.

    Without a name any study that is prepared there.
    """
    file = sqlite_file(url) if name is None else claim_file(url, name)
    if file is None:
        return None
    files = claim_files(file) if name is None else [file]
    pulses = [pulse for pulse in map(told_in, files) if pulse is not None and run_state(pulse) == "preparing"]
    if not pulses:
        return None
    latest = max(pulses, key=lambda pulse: pulse.updated)
    return StudyStatus(name or latest.study, shown_url(url), "preparing", latest, _counts((), ()), (), time.time())


def usual_study(url: str) -> str:
    """Name of the study of a storage that runs, else of the one that was heard of last.

    Raises:
        StudyError: There is none, or it cannot be read.
    """
    with StudyReader(url, None) as reader:
        return reader.name


def _counts(states: Sequence[OptunaState], records: Sequence[TrialRecord]) -> dict[str, int]:
    ended = Counter(record.state.outcome for record in records)
    of_optuna = Counter(states)
    return {
        "complete": ended["complete"],
        "stopped": ended["stopped"],
        # Those that an interrupted run left behind have no record, and of some it cannot be read.
        "failed": sum(state.is_finished() for state in states) - ended["complete"] - ended["stopped"],
        "running": of_optuna[OptunaState.RUNNING],
        "waiting": of_optuna[OptunaState.WAITING],
    }


def _reading_options(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}

    def connect() -> sqlite3.Connection:
        # "rw" never creates a file, and can roll back what a killed run left half written, which "ro" cannot. A file
        # without permission to write is opened for reading.
        connection = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCK_WAIT_SECONDS, check_same_thread=False
        )
        connection.execute("PRAGMA query_only=ON")
        return connection

    return {"creator": connect}
