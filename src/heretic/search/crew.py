"""Crew: who measures the plans that a search asks for, a batch at a time; here the one engine of this process.

Several processes are a crew too, see `heretic.workers`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from heretic.engine.engine import Engine
from heretic.engine.measurement import Measurement
from heretic.models.memory import USAGE, memory_use
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan
from heretic.search.pulse import Member


@dataclass(frozen=True, slots=True)
class Batch:
    """Plans that are measured together.

    Attributes:
        numbers: Their trials'.
        plans: One for each number.
        gate: What finished trials had reached when they were asked for.
    """

    numbers: tuple[int, ...]
    plans: tuple[EditPlan, ...]
    gate: Gate


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of a batch.

    Attributes:
        batch: Which.
        measurements: One a plan.
        seconds: How long it took.
        tokens: That went through the model.
        memory: Of the process that measured, see `heretic.models.memory`.
        candidates: How many plans it measures at once from now on.
        worker: Its name; empty for this process.
    """

    batch: Batch
    measurements: tuple[Measurement, ...]
    seconds: float
    tokens: int
    memory: Mapping[str, Mapping[str, int]]
    candidates: int
    worker: str = ""


class Crew(Protocol):
    """Whoever measures; batches end in any order."""

    @property
    def free(self) -> int:
        """How many plans the next one who is free measures at once; 0 while nobody is."""

    @property
    def members(self) -> tuple[Member, ...]:
        """Processes of their own that measure, as `heretic status` shows them; none where this process does."""

    def start(self, batch: Batch) -> None:
        """Have a batch of at most `free` plans measured."""

    def finished(self) -> Sequence[Measured]:
        """Wait until a batch is measured or somebody is free, but not for long, so that signals are heard.

        Raises:
            HereticError: Nobody is left who could measure.
        """


class Alone:
    """The engine of this process, which measures while it is waited for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._batch: Batch | None = None

    @property
    def free(self) -> int:
        """See Crew."""
        return 0 if self._batch is not None else self._engine.candidates

    @property
    def members(self) -> tuple[Member, ...]:
        """See Crew."""
        return ()

    def start(self, batch: Batch) -> None:
        """See Crew."""
        self._batch = batch

    def finished(self) -> Sequence[Measured]:
        """See Crew."""
        batch, self._batch = self._batch, None
        return [] if batch is None else [measured(self._engine, batch)]


def measured(engine: Engine, batch: Batch) -> Measured:
    """Measure a batch here and now."""
    started, tokens = time.perf_counter(), USAGE.tokens
    measurements = tuple(engine.measure(batch.plans, batch.numbers, batch.gate))
    seconds, tokens = time.perf_counter() - started, USAGE.tokens - tokens
    return Measured(batch, measurements, seconds, tokens, memory_use(), engine.candidates)
