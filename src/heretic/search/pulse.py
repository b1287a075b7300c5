"""Pulse: what a run tells of itself in its study, for whoever looks from outside (``heretic status``).

Imports nothing heavy: it is read by a command that answers at once.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

PULSE_ATTRIBUTE = "pulse"
"""The study's user attribute that holds it."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last thing heard of a run.

    Attributes:
        state: ``preparing`` (before the first trial), ``searching``, ``finished`` or ``interrupted``.
        host: Name of the machine.
        pid: The process there.
        process_started: When that process began, since numbers of processes are used again. All times are seconds
            since 1970.
        version: Heretic's.
        model: What the user asked for.
        n_trials: Measured trials wanted in all.
        started: When the run began to search.
        updated: When it wrote this.
        seconds_per_trial: The present pace, by wall clock; None before the first trial.
        batch_size: Prompts per forward pass.
        candidates: Edits measured in one batch; 0 before the first.
        tokens_per_second: Of the last batch.
        out_of_memory: How often an allocation failed in this process.
        memory: Place -> amounts, see `heretic.models.memory`.
    """

    state: str
    host: str
    pid: int
    process_started: float
    version: str
    model: str
    n_trials: int
    started: float
    updated: float
    seconds_per_trial: float | None
    batch_size: int
    candidates: int
    tokens_per_second: float | None
    out_of_memory: int
    memory: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The pulse as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "Pulse | None":
        """The inverse of `to_json`; None for what another version wrote or nobody did."""
        names = {entry.name for entry in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != names:
            return None
        return cls(**data)
