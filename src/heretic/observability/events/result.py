"""Events of a chosen trial and of an edited model: measured again, compared, saved, uploaded."""

from dataclasses import dataclass
from typing import Any

from heretic.observability.events.bus import Event
from heretic.results.capability import Capability
from heretic.results.held_out import HeldOut
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord


@dataclass(frozen=True, slots=True)
class TrialApplied(Event):
    """A chosen trial is in the weights and was measured again, with these scores."""

    record: TrialRecord
    scores: Scores

    def to_log(self) -> dict[str, Any]:
        """See Event."""
        return {"number": self.record.number, "scores": self.scores, "searched": self.record.scores}


@dataclass(frozen=True, slots=True)
class HeldOutMeasured(Event):
    """The applied trial was measured on held-out prompts; `searched` are its scores on the search's, in the weights."""

    number: int
    held_out: HeldOut
    searched: Scores
    seconds: float


@dataclass(frozen=True, slots=True)
class FrontHeldOut(Event):
    """Trials were measured on held-out prompts as the search measures: their scores there, in the same order."""

    records: tuple[TrialRecord, ...]
    scores: tuple[Scores, ...]
    seconds: float

    def to_log(self) -> dict[str, Any]:
        """See Event."""
        numbers = [record.number for record in self.records]
        return {"numbers": numbers, "scores": self.scores, "seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class CapabilityStarted(Event):
    """The ``original`` or ``edited`` model (`which`) is asked so many questions, and runs these benchmarks."""

    which: str
    source: str
    questions: int
    benchmarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CapabilityMeasured(Event):
    """What the edited model is able to do beside the original one, see results.capability."""

    result: Capability
    seconds: float


@dataclass(frozen=True, slots=True)
class FullPrecisionNeeded(Event):
    """A trial that was found on quantised weights is to be saved: the model is loaded again without quantisation."""

    quantization: str
    measured: bool
    """Whether the saved weights' scores are known already, from an earlier save of the same trial."""


@dataclass(frozen=True, slots=True)
class FullPrecisionMeasured(Event):
    """The weights that are saved were measured, as the quantised ones had been."""

    quantization: str
    scores: Scores
    quantized: Scores


@dataclass(frozen=True, slots=True)
class ModelCompared(Event):
    """An already edited model was measured against its base."""

    model: str
    base: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class ModelSaved(Event):
    """A model folder is complete under its final name."""

    path: str
    file_count: int
    bytes: int
    format: str
    verified_answers: int


@dataclass(frozen=True, slots=True)
class ReportWritten(Event):
    """A report was written beside a saved model; `sampled` says of which trials, where not of all."""

    path: str
    sampled: str = ""


@dataclass(frozen=True, slots=True)
class StudyLeft(Event):
    """A person has left the menu. `command` comes back to it."""

    study: str
    storage: str
    command: str


@dataclass(frozen=True, slots=True)
class UploadStarted(Event):
    """A saved and checked folder is about to be uploaded, which takes as long as the network needs."""

    repository: str
    file_count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ModelUploaded(Event):
    """A model was uploaded to the hub."""

    repository: str
    url: str
    private: bool
