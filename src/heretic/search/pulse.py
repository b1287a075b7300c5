"""Pulse: what a run tells of itself in its study, for whoever looks from outside (``heretic status``).

Imports nothing heavy: it is read by a command that answers at once.
"""

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from heretic.common.errors import VersionSkewError, first_line
from heretic.config.sections.search import is_open
from heretic.results import reading

_SAME_PROCESS_SECONDS = 1.0
"""Two readings of when a process began may differ by rounding."""
SILENCE_SECONDS = 120.0
SILENCE_BATCHES = 4
"""A run that has been silent for so long, and for so many of its batches, is taken for dead."""
RUNNING = ("preparing", "searching", "finishing")
"""States of a run that goes on."""
STATES = (*RUNNING, "finished", "interrupted")
PULSE_ATTRIBUTE = "pulse"
"""The study's attribute that holds it; where several may work on a study, each has one of its own, see `pulse_of`."""
WORKERS = f"{PULSE_ATTRIBUTE}."
"""What the attributes of these begin with."""
LATEST = 1e11
"""Seconds since 1970 that calendars know."""
MOST_COUNTED = 2**31 - 1
"""Numbers of processes, trials and prompts are no larger."""
_Text = Annotated[str, Field(strict=True, max_length=reading.LONGEST_TEXT)]
_Moment = Annotated[float, Field(strict=True, ge=0, le=LATEST)]
_Count = Annotated[int, Field(strict=True, ge=0, le=MOST_COUNTED)]
_Bytes = Annotated[int, Field(strict=True, ge=0, le=int(reading.LARGEST))]


_Memory = Mapping[str, Mapping[str, _Bytes]]


def _complete(memory: _Memory) -> _Memory:
    if not all({"used_bytes", "available_bytes"} <= amounts.keys() for amounts in memory.values()):
        raise ValueError("memory must say what is used and what is available")
    return memory


@dataclass(frozen=True, slots=True)
class Member:
    """A process that measures for a run; as in Pulse what is named alike there.

    Attributes:
        worker: Its name within the run.
        device: What it computes on, e.g. ``cuda:0``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    worker: _Text
    host: _Text = ""
    pid: _Count = 0
    process_started: _Moment = 0.0
    process_mark: _Text = ""
    device: _Text = ""
    candidates: _Count = 0
    updated: _Moment = 0.0
    trials: Sequence[_Count] = ()
    seconds_per_trial: _Moment | None = None
    tokens_per_second: _Moment | None = None
    memory: Annotated[_Memory, AfterValidator(_complete)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last thing heard of a run.

    Attributes:
        state: ``preparing`` (before the first trial), ``searching``, ``finishing`` (what comes after the search, as
            `step` says), ``finished`` or ``interrupted``.
        host: Name of the machine.
        pid: The process there.
        process_started: When that process began, since numbers of processes are used again. All times are seconds
            since 1970.
        version: Heretic's.
        model: What the user asked for.
        n_trials: Measured trials wanted in all; `OPEN_TRIALS` for as many as there is time for.
        started: When the run began to search.
        updated: When it wrote this.
        seconds_per_trial: The present pace, by wall clock; None before the first trial.
        batch_size: Prompts per forward pass.
        candidates: Edits measured in one batch; 0 before the first.
        tokens_per_second: Of the last batch.
        out_of_memory: How often an allocation failed in this process.
        memory: Place -> amounts, see `heretic.models.memory`.
        process_mark: See `process_mark`; empty where nothing tells it.
        slower: What of measuring is not done in the best way: why, and what that costs.
        step: What the run does before or after its search, with its count; empty where that is not known.
        step_remaining: Seconds until that, or the search, is done, by the pace of the latest batches.
        searched_until: When the search ended; 0 where it did not.
        worker: Its name where several may work on the study, see `fields.worker_name`.
        trials: Numbers of the trials that it measures at the moment; told by workers only.
        crew: Processes of their own that measure for it.
        device: See Member.
        study: The study, as long as it is prepared.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    state: Literal["preparing", "searching", "finishing", "finished", "interrupted"]
    host: _Text = ""
    pid: _Count = 0
    process_started: _Moment = 0.0
    version: _Text = ""
    model: _Text = ""
    n_trials: _Count = 0
    started: _Moment = 0.0
    updated: _Moment = 0.0
    seconds_per_trial: _Moment | None = None
    batch_size: _Count = 0
    candidates: _Count = 0
    tokens_per_second: _Moment | None = None
    out_of_memory: _Count = 0
    memory: Annotated[_Memory, AfterValidator(_complete)] = field(default_factory=dict)
    slower: Sequence[_Text] = ()
    process_mark: _Text = ""
    step: _Text = ""
    step_remaining: _Moment | None = None
    searched_until: _Moment = 0.0
    worker: _Text = ""
    trials: Sequence[_Count] = ()
    crew: Sequence[Member] = ()
    device: _Text = ""
    study: _Text = ""

    @property
    def each(self) -> "tuple[Pulse, ...]":
        """Everybody who measures for it, as if each had told of itself; the run itself where that is all."""
        if not self.crew:
            return (self,)
        alike = {entry.name for entry in fields(Member)}
        name = f"{self.worker} " if self.worker else ""
        pulses = [replace(self, crew=(), **{key: getattr(member, key) for key in alike}) for member in self.crew]
        return tuple(replace(pulse, worker=f"{name}{pulse.worker}") for pulse in pulses)

    @property
    def patience(self) -> float:
        """Seconds of silence after which it is taken for dead."""
        batch = (self.seconds_per_trial or 0.0) * max(self.candidates, 1)
        return max(SILENCE_SECONDS, SILENCE_BATCHES * batch)

    @property
    def counts_trials(self) -> bool:
        """Whether the number of trials is what ends the search, and not the time."""
        return not is_open(self.n_trials)

    def to_json(self) -> dict[str, Any]:
        """The pulse as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "Pulse | None":
        """The inverse of `to_json`; None where no run told anything. Entries that are not known here are left out.

        Raises:
            VersionSkewError: A newer or older Heretic, or something else, wrote it.
        """
        if data is None:
            return None
        try:
            return _PULSE.validate_python(data)
        except ValueError as error:
            raise VersionSkewError(
                f"What the run told of itself is of a newer or older Heretic ({first_line(error)})."
            ) from error


_PULSE = TypeAdapter(Pulse)


def pulse_of(worker: str) -> str:
    """The study's attribute that holds the pulse of this worker; of the one run where it has no name."""
    return f"{WORKERS}{worker}" if worker else PULSE_ATTRIBUTE


def pulses_in(attributes: Mapping[str, Any]) -> dict[str, Pulse]:
    """Every pulse of a study by its attribute, the latest last; those that were taken away are left out.

    Raises:
        VersionSkewError: See `Pulse.from_json`.
    """
    stored = {
        name: Pulse.from_json(value)
        for name, value in attributes.items()
        if name == PULSE_ATTRIBUTE or (name.startswith(WORKERS) and value != "")
    }
    pulses = {name: pulse for name, pulse in stored.items() if pulse is not None}
    return dict(sorted(pulses.items(), key=lambda item: item[1].updated))


def left_over(number: int, pulses: Iterable[Pulse], silent: Callable[[Pulse], bool]) -> bool:
    """Whether nobody measures a running trial any more.

    Trials are asked for and named in a pulse in one turn (`search.claim`), so one that no pulse names has nobody,
    unless a run goes on that names none.

    Args:
        number: The trial's.
        pulses: Of everybody else.
        silent: Whether nothing has been heard of a run for too long.
    """
    going_on = [pulse for pulse in pulses if run_state(pulse) in RUNNING and not silent(pulse)]
    return not any(number in pulse.trials or not pulse.worker for pulse in going_on)


def process_mark(pid: int) -> str:
    """Which boot of the system a process is of, and the ticks from there to its start; empty where nothing tells that.

    On Linux the time at which a process began follows the clock when that is set; this does not.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Behind the name, which may hold anything: proc(5), field 22.
        ticks = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{boot} {ticks.decode()}"


def run_state(pulse: Pulse | None) -> str:
    """See StudyStatus.run. Processes of other machines cannot be looked at, so what they said last holds."""
    if pulse is None:
        return "unknown"
    if pulse.state not in RUNNING or pulse.host != socket.gethostname():
        return pulse.state
    mark = process_mark(pulse.pid)
    if pulse.process_mark and mark:
        return pulse.state if mark == pulse.process_mark else "gone"
    try:
        began = psutil.Process(pulse.pid).create_time()
    except psutil.NoSuchProcess:
        return "gone"
    except psutil.AccessDenied:
        return pulse.state
    return pulse.state if abs(began - pulse.process_started) <= _SAME_PROCESS_SECONDS else "gone"


def still_works(pulse: Pulse | None, now: float) -> bool:
    """Whether another process seems to work on the study.

    Args:
        pulse: What was heard last.
        now: Seconds since 1970.
    """
    if pulse is None or run_state(pulse) not in RUNNING:
        return False
    if pulse.host == socket.gethostname() and not _is_stopped(pulse.pid):
        return pulse.pid != os.getpid()
    return now - pulse.updated < pulse.patience


def _is_stopped(pid: int) -> bool:
    """Whether a process of this machine is held by a signal, or a debugger, so that it does not go on by itself."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.NoSuchProcess:
        return True
