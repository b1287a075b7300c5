"""TrialRecord: what is kept of a trial, stored as JSON in Optuna's user attributes."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from heretic.common.errors import VersionSkewError, first_line
from heretic.results import reading
from heretic.results.plan import EditPlan, Scope
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
        is_read: Whether this is what the study holds; False where that could not be read, see `unreadable`.
    """

    number: int
    plan: EditPlan
    scores: Scores | None
    state: TrialState
    reason: str
    seconds: float
    is_read: bool = True

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
        """Whether it was stopped: a finished trial is better, or more was lost than may be of what has to stay."""
        return self.state.is_stopped

    @property
    def may_be_chosen(self) -> bool:
        """Whether it was measured to the end, and no more was lost than may be of what has to stay."""
        return self.is_complete and self.measured.is_allowed

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
    def from_json(cls, data: Any, number: int | None = None) -> "TrialRecord":
        """The inverse of `to_json`; entries that are not known here are left out.

        Args:
            data: What was stored.
            number: Optuna's number of the trial, where it is known: it counts.

        Raises:
            VersionSkewError: A newer or older Heretic, or something else, wrote it.
        """
        try:
            data = reading.table(data, "the record")
            state, stored = TrialState(data.get("state")), reading.items(data.get("scores", ()), "scores")
            scores = None if state is TrialState.FAILED else Scores.from_json(stored)
            if scores is None and state is not TrialState.FAILED:
                raise ValueError("scores are missing")
            return cls(
                reading.whole(data.get("number"), "number") if number is None else number,
                EditPlan.from_json(data.get("plan")),
                scores,
                state,
                reading.text(data.get("reason", ""), "reason"),
                reading.number(data.get("seconds", 0.0), "seconds", least=0.0),
            )
        except ValueError as error:
            which = "A trial" if number is None else f"Trial {shown(number)}"
            raise VersionSkewError(
                f"{which} has a record of a newer or older Heretic ({first_line(error)})."
            ) from error

    @classmethod
    def unreadable(cls, number: int, reason: str) -> "TrialRecord":
        """What stands for a stored trial that cannot be read: a failed one."""
        return cls(number, EditPlan(Scope.LAYER, None, ()), None, TrialState.FAILED, reason, 0.0, is_read=False)
