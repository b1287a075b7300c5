"""Events of the study and its trials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heretic.observability.events.bus import Event
from heretic.results.front import Standing
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialRecord
from heretic.results.words import parameters


@dataclass(frozen=True, slots=True)
class BaselineMeasured(Event):
    """The original model's own numbers: of every behaviour, on how many prompts KL is, and of what has to stay."""

    behaviors: tuple[Score, ...]
    kl_prompt_count: int
    seconds: float
    kept: tuple[Score, ...] = ()


@dataclass(frozen=True, slots=True)
class NothingShown(Event):
    """The original model leaves nothing of a behaviour to edit, for the goal that a run has.

    Some of its answers say whether that is so; `next_step` says what to do where they show otherwise.
    """

    behavior: str
    message: str
    answers: tuple[str, ...]
    next_step: str


@dataclass(frozen=True, slots=True)
class EngineChosen(Event):
    """How trials are measured: `candidates` to a batch; `slower`: what is not done in the best way, why, and its cost.

    `shared_tokens` stand at the beginning of every prompt; `kept_bytes` of lower layers are kept across trials.
    """

    name: str
    candidates: int
    slower: tuple[str, ...] = ()
    shared_tokens: int = 0
    kept_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StudyOpened(Event):
    """A study was created (finished == 0) or resumed."""

    name: str
    storage: str
    finished: int
    n_trials: int


@dataclass(frozen=True, slots=True)
class SearchStarted(Event):
    """The search loop begins, with the trials that are there already."""

    standing: Standing
    states: Mapping[str, int] = field(default_factory=dict)
    """Finished trials by state: ``complete``, ``dominated``, ``pruned``, ``failed``."""

    def to_log(self) -> dict[str, Any]:
        """See Event; of the best trial its scores."""
        standing = self.standing
        return {
            "finished": standing.finished,
            "n_trials": standing.n_trials,
            "best": () if standing.best is None else standing.best.scores,
            "states": self.states,
            "lowest_kl": standing.lowest_kl,
        }


@dataclass(frozen=True, slots=True)
class SearchLimited(Event):
    """The search ends at `until` (seconds since 1970), so that the run is over in time; `kept` seconds come after it.

    Where the time is `used_up` already, one batch of trials is measured all the same.
    """

    until: float
    kept: float
    used_up: bool


@dataclass(frozen=True, slots=True)
class TrialFinished(Event):
    """One trial ended; `standing` is where the search stands with it. `on_front`: no finished trial beats it.

    `worker` measured it, where that was another than this process; `of_another` run, or one of its own.
    """

    record: TrialRecord
    standing: Standing
    on_front: bool
    worker: str = ""
    of_another: bool = False

    def to_log(self) -> dict[str, Any]:
        """See Event; the record's own values, and its plan in words."""
        record = self.record
        return {
            "number": record.number,
            "n_trials": self.standing.n_trials,
            "scores": () if record.scores is None else record.scores,
            "seconds": record.seconds,
            "on_front": self.on_front,
            "state": record.state.value,
            "reason": record.reason,
            "parameters": parameters(record.plan),
            "dominated": record.is_stopped,
            **({"measured_by": self.worker} if self.worker else {}),
        }


@dataclass(frozen=True, slots=True)
class BatchMeasured(Event):
    """The trials that were measured together ended; comes after the TrialFinished of each.

    `tokens` went through the model, read or written. `memory`: place to amounts, see `heretic.models.memory`, of the
    `worker` that measured them; of this process where it has no name.
    """

    trials: int
    seconds: float
    tokens: int
    tokens_per_second: float
    memory: Mapping[str, Mapping[str, int]]
    worker: str = ""


@dataclass(frozen=True, slots=True)
class WorkerReady(Event):
    """A process of its own can measure now, `candidates` plans at once, after it prepared for so many `seconds`."""

    worker: str
    host: str
    device: str
    candidates: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TrialRaised(Event):
    """Measuring these trials failed in a way that nobody foresaw; `where` is the traceback, for the log."""

    numbers: tuple[int, ...]
    reason: str
    where: str


@dataclass(frozen=True, slots=True)
class ResponseMeasured(Event):
    """One prompt and the edited (or, for trial None, original) model's answer; shown with --verbose.

    `verdict` says what was found in it, e.g. ``refused``.
    """

    trial: int | None
    prompt: str
    response: str
    verdict: str


@dataclass(frozen=True, slots=True)
class SearchFinished(Event):
    """The search loop ended; `interrupted` where the user stopped it, `out_of_time` where its time is over."""

    finished: int
    seconds: float
    interrupted: bool
    out_of_time: bool = False


@dataclass(frozen=True, slots=True)
class FrontChecked(Event):
    """An end of the front was measured again in the weights, by ordinary passes, with these scores."""

    record: TrialRecord
    scores: Scores

    def to_log(self) -> dict[str, Any]:
        """See Event."""
        return {"number": self.record.number, "scores": self.scores, "searched": self.record.scores}
