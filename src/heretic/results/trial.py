"""TrialRecord: what is kept of a trial, stored as JSON in Optuna's user attributes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from heretic.results.plan import EditPlan, Scope, UnknownPlan
from heretic.results.score import Score, Scores, behaviors_of, divergence_of


class TrialState(str, Enum):
    """How a trial ended."""

    COMPLETE = "complete"
    DOMINATED = "dominated"
    PRUNED = "pruned"
    """Stopped because the one number that is minimised was bound to be worse than the best; see results.objective."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One finished trial.

    Attributes:
        number: Optuna's trial number, from 0.
        plan: What was edited.
        scores: The measured scores in the order of the study's objectives; empty where the trial failed. A stopped
            trial's are what had been measured when it was stopped, see engine.measurement.
        state: How it ended.
        reason: Why it failed or was stopped, else an empty string.
        seconds: Wall-clock time.
    """

    number: int
    plan: EditPlan
    scores: tuple[Score, ...]
    state: TrialState
    reason: str
    seconds: float

    @property
    def values(self) -> tuple[float, ...]:
        """The objective values, lower is better."""
        return tuple(score.value for score in self.scores)

    @property
    def behaviors(self) -> Scores:
        """The scores of the behaviours; none of a failed trial."""
        return behaviors_of(self.scores)

    @property
    def kl(self) -> Score:
        """The KL score.

        Raises:
            KeyError: There is none, e.g. of a failed trial.
        """
        return divergence_of(self.scores)

    def score(self, name: str) -> Score:
        """The score of that name.

        Raises:
            KeyError: No such score.
        """
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return {
            "number": self.number,
            "plan": self.plan.to_json(),
            "scores": [score.to_json() for score in self.scores],
            "state": self.state.value,
            "reason": self.reason,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TrialRecord":
        """The inverse of `to_json`; a plan that this version cannot make is that of a failed trial."""
        try:
            plan = EditPlan.from_json(data["plan"])
        except UnknownPlan as error:
            nothing = EditPlan(Scope(data["plan"]["scope"]), None, ())
            return cls(data["number"], nothing, (), TrialState.FAILED, str(error), data["seconds"])
        return cls(
            data["number"],
            plan,
            tuple(Score.from_json(score) for score in data["scores"]),
            TrialState(data["state"]),
            data["reason"],
            data["seconds"],
        )
