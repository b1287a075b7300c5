"""TrialRecord: what is kept of a trial, stored as JSON in Optuna's user attributes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from heretic.results.plan import EditPlan
from heretic.results.score import Score, Scores


def shown(number: int) -> int:
    """A trial's number as people see it: Optuna counts from 0, people from 1."""
    return number + 1


class TrialState(str, Enum):
    """How a trial ended."""

    COMPLETE = "complete"
    DOMINATED = "dominated"
    PRUNED = "pruned"
    """Stopped because the one number that is minimised was bound to be worse than the best; see results.objective."""
    FAILED = "failed"

    @property
    def is_stopped(self) -> bool:
        """Whether it was not measured to the end, because a finished trial is better."""
        return self in (TrialState.DOMINATED, TrialState.PRUNED)

    @property
    def outcome(self) -> str:
        """What people tell apart: ``complete``, ``stopped`` or ``failed``."""
        return "stopped" if self.is_stopped else self.value


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One finished trial.

    Attributes:
        number: Optuna's trial number, from 0.
        plan: What was edited.
        scores: What was measured; None where the trial failed. A stopped trial's are what had been measured when it was
            stopped, see engine.measurement.
        state: How it ended.
        reason: Why it failed or was stopped, else an empty string.
        seconds: Wall-clock time.
    """

    number: int
    plan: EditPlan
    scores: Scores | None
    state: TrialState
    reason: str
    seconds: float

    @property
    def shown(self) -> int:
        """The number as people see it: from 1."""
        return shown(self.number)

    @property
    def is_complete(self) -> bool:
        """Whether it was measured to the end."""
        return self.state is TrialState.COMPLETE

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped because a finished trial is better."""
        return self.state.is_stopped

    @property
    def is_failed(self) -> bool:
        """Whether it could not be measured."""
        return self.state is TrialState.FAILED

    @property
    def values(self) -> tuple[float, ...]:
        """The objective values, lower is better; none of a failed trial."""
        return () if self.scores is None else self.scores.values

    @property
    def behaviors(self) -> tuple[Score, ...]:
        """The scores of the behaviours; none of a failed trial."""
        return () if self.scores is None else self.scores.behaviors

    @property
    def measured(self) -> Scores:
        """The scores of a trial that did not fail.

        Raises:
            ValueError: It did.
        """
        if self.scores is None:
            raise ValueError(f"trial {self.shown} failed")
        return self.scores

    @property
    def kl(self) -> Score:
        """The KL score; raises as `measured`."""
        return self.measured.kl

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return {
            "number": self.number,
            "plan": self.plan.to_json(),
            "scores": [] if self.scores is None else self.scores.to_json(),
            "state": self.state.value,
            "reason": self.reason,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TrialRecord":
        """The inverse of `to_json`."""
        return cls(
            data["number"],
            EditPlan.from_json(data["plan"]),
            Scores.from_json(data["scores"]),
            TrialState(data["state"]),
            data["reason"],
            data["seconds"],
        )
