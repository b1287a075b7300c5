"""A worker: a process with one loaded model, which measures the plans that its lead sends."""

import socket
import time
from dataclasses import dataclass, replace

import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types
import torch

from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.edits.build import Adjustments
from heretic.engine.engine import Engine
from heretic.observability.events import Event, MemoryRanOut, TrialRaised, Warned, subscribed
from heretic.prompts.sets import PromptSets
from heretic.results.score import Score
from heretic.run.workbench import Workbench, open_engine
from heretic.search.crew import Batch, Measured, measured
from heretic.search.pulse import Member, process_mark

HOST = torch.device("cpu")
TOLERANCE = 0.02
"""A worker may count so large a share of the prompts, or of an amount, differently from its lead on the original."""


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """What all workers of a run work with: what its lead prepared.

    Attributes:
        settings: The run's, with what calibration found.
        prompts: The run's.
        directions: In host memory.
        adjustments: Likewise.
        baseline: What the lead measured of the original model.
    """

    settings: Settings
    prompts: PromptSets
    directions: DirectionSet
    adjustments: Adjustments
    baseline: tuple[Score, ...]

    @classmethod
    def of(cls, bench: Workbench, threads: int) -> "Assignment":
        """That of a prepared run, for workers that compute with so many threads each."""
        settings, device = bench.settings, bench.loaded.device
        # What the lead found holds for all, or they would measure something else.
        found = {
            "dtypes": [bench.loaded.dtype],
            "batch_size": bench.runner.calibration.batch_size,
            "response_prefix": bench.runner.calibration.response_prefix,
            "candidates": bench.engine.candidates,
            "threads": threads,
            # Of the devices that a worker sees, the first is its own.
            "device": "cpu" if device.type == "cpu" else "auto",
        }
        return cls(
            settings.model_copy(update=found),
            bench.prompts,
            bench.directions.to(HOST),
            bench.adjustments.to(HOST),
            bench.baselines,
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """What a worker says once it can measure.

    Attributes:
        member: Who it is.
        baseline: What it measured of the original model.
        seconds: How long it took.
    """

    member: Member
    baseline: tuple[Score, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker answers, and what its lead has to hear of meanwhile.

    Attributes:
        answer: What was asked for.
        events: Warnings and failures.
    """

    answer: Ready | Measured
    events: tuple[Event, ...]


class Measurer:
    """Runs in the worker's process; one call at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._engine: Engine | None = None

    def prepare(self, assignment: Assignment) -> Report:
        """Load the model and measure the original.

        Raises:
            HereticError: See `run.workbench.prepare`.
        """
        started, seen = time.perf_counter(), list[Event]()
        with subscribed(seen.append):
            self._engine, device, baseline = open_engine(
                assignment.settings, assignment.prompts, assignment.directions, assignment.adjustments
            )
        process = psutil.Process()
        member = Member(
            worker=self._name,
            host=socket.gethostname(),
            pid=process.pid,
            process_started=process.create_time(),
            process_mark=process_mark(process.pid),
            device=str(device),
            candidates=self._engine.candidates,
        )
        # What it warns of while it prepares its lead has said before.
        events = tuple(event for event in seen if isinstance(event, MemoryRanOut))
        return Report(Ready(member, baseline, time.perf_counter() - started), events)

    def measure(self, batch: Batch) -> Report:
        """Measure a batch; `prepare` comes first.

        Raises:
            HereticError: See `Engine.measure`.
        """
        if self._engine is None:
            raise RuntimeError("the worker is not prepared")
        seen: list[Event] = []
        with subscribed(seen.append):
            result = replace(measured(self._engine, batch), worker=self._name)
        return Report(result, tuple(event for event in seen if isinstance(event, (Warned, MemoryRanOut, TrialRaised))))


def differences(baseline: tuple[Score, ...], other: tuple[Score, ...]) -> list[str]:
    """What two processes measured too differently of the same original model, each in words."""
    return [
        f"{there.label} {there.baseline:g} instead of {here.baseline:g}"
        for here, there in zip(baseline, other, strict=True)
        if abs(here.baseline - there.baseline) > _tolerated(here)
    ]


def _tolerated(score: Score) -> float:
    return max(1.0, TOLERANCE * score.n) if score.counts_answers else TOLERANCE * max(abs(score.baseline), TOLERANCE)
