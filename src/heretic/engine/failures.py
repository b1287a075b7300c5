"""What becomes of a trial in which something raises that nobody foresaw: a plug-in may raise anything."""

import traceback
from collections.abc import Sequence

from heretic.common.errors import first_line
from heretic.engine.measurement import Measurement
from heretic.observability.events import TrialRaised, emit
from heretic.results.trial import TrialState


def failed_by(error: Exception, numbers: Sequence[int]) -> list[Measurement]:
    """One failed measurement a trial, with the error as the reason. Emits TrialRaised, which says where it happened."""
    reason = f"{type(error).__name__}: {first_line(error)}"
    emit(TrialRaised(tuple(numbers), reason, "".join(traceback.format_exception(error))))
    return [Measurement(None, TrialState.FAILED, reason) for _ in numbers]
