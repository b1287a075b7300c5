"""Events of whatever takes long: `observability.steps` emits them."""

from dataclasses import dataclass
from typing import ClassVar

from heretic.observability.events.bus import Event


@dataclass(frozen=True, slots=True)
class StepEvent(Event):
    """How far a step is. Steps may stand within others; the innermost one is what a run does at the moment.

    Attributes:
        doing: What is done, in words.
        within: The steps that it is a part of, outermost first.
        done: How many of its units are done.
        total: Out of how many; 0 where nothing can be counted.
        unit: What is counted, e.g. ``prompts``.
        text: What else is to be said.
        elapsed: Seconds since it began.
        remaining: Seconds that are left by the pace of the latest work; None where that is not known.
    """

    is_step: ClassVar[bool] = True

    doing: str
    within: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
    unit: str = ""
    text: str = ""
    elapsed: float = 0.0
    remaining: float | None = None

    @property
    def told(self) -> str:
        """What is done, the steps around it first, and how much of it."""
        count = f", {self.done}/{self.total} {self.unit}" if self.total and self.unit != "bytes" else ""
        return ": ".join((*self.within, self.doing)) + count


@dataclass(frozen=True, slots=True)
class StepStarted(StepEvent):
    """A step begins."""


@dataclass(frozen=True, slots=True)
class StepAdvanced(StepEvent):
    """More of it is done."""


@dataclass(frozen=True, slots=True)
class StepGoesOn(StepEvent):
    """It is not over yet; said from time to time, for whoever sees no bar."""


@dataclass(frozen=True, slots=True)
class StepEnded(StepEvent):
    """It is over, however it ended."""
