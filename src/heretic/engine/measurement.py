"""How measuring one plan ended."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from heretic.common.errors import first_line
from heretic.observability.events import TrialRaised, emit
from heretic.results.score import Scores
from heretic.results.trial import TrialState

MEMORY_RAN_OUT = "memory ran out, also with one candidate and one prompt at a time"


@dataclass(frozen=True, slots=True)
class Measurement:
    """How measuring one plan ended.

    Attributes:
        scores: None where it failed. Of a stopped trial they are what had been measured when it was stopped: what
            answers amount to so far, a lower bound, and the mean divergence of the positions seen.
        state: COMPLETE, DOMINATED, PRUNED or FAILED.
        reason: Why it failed or was stopped; empty for a complete one.
    """

    scores: Scores | None
    state: TrialState
    reason: str = ""


def failed(reason: str) -> Measurement:
    """A trial that was not measured."""
    return Measurement(None, TrialState.FAILED, reason)


def failed_by(error: Exception, numbers: Sequence[int]) -> list[Measurement]:
    """One failed measurement a trial, with an error that nobody foresaw as the reason: a plug-in may raise anything.

    Emits TrialRaised, which says where it happened.
    """
    reason = f"{type(error).__name__}: {first_line(error)}"
    emit(TrialRaised(tuple(numbers), reason, "".join(traceback.format_exception(error))))
    return [failed(reason) for _ in numbers]
