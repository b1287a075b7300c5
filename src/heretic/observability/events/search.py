"""Events of the study and its trials."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from heretic.observability.events.bus import Event
from heretic.results.score import Score, Scores


@dataclass(frozen=True, slots=True)
class BaselineMeasured(Event):
    """The unedited model's own numbers: a score for every behaviour, and on how many prompts KL is measured."""

    behaviors: tuple[Score, ...]
    kl_prompt_count: int
    seconds: float


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
    """The search loop begins: `finished` of `n_trials` trials are there already.

    The scores of the best of these (least of the behaviour, then lowest KL) go along where there is one.
    """

    finished: int
    n_trials: int
    best: Scores | None = None
    states: Mapping[str, int] = field(default_factory=dict)
    """Finished trials by state: ``complete``, ``dominated``, ``pruned``, ``failed``."""
    lowest_kl: float | None = None
    """Of the complete trials."""


@dataclass(frozen=True, slots=True)
class TrialFinished(Event):
    """One trial ended. `reason` is empty unless it failed or was stopped because a finished trial dominates it.

    `scores` are None where it failed; of a stopped one they are what was seen so far. `on_front`: no finished trial is
    better in all numbers.

    `number` is Optuna's, from 0, as in TrialRecord; people are shown it plus one.
    """

    number: int
    n_trials: int
    scores: Scores | None
    seconds: float
    on_front: bool
    reason: str
    parameters: Mapping[str, str]
    dominated: bool = False


@dataclass(frozen=True, slots=True)
class BatchMeasured(Event):
    """The trials that were measured together ended; comes after the TrialFinished of each.

    `tokens` went through the model, read or written. `memory`: place to amounts, see `heretic.models.memory`.
    """

    trials: int
    seconds: float
    tokens: int
    tokens_per_second: float
    memory: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class TrialRaised(Event):
    """Measuring these trials failed in a way that nobody foresaw; `where` is the traceback, for the log."""

    numbers: tuple[int, ...]
    reason: str
    where: str


@dataclass(frozen=True, slots=True)
class ResponseMeasured(Event):
    """One prompt and the edited (or, for trial None, unedited) model's answer; shown with --verbose.

    `verdict` says what was found in it, e.g. ``refused``.
    """

    trial: int | None
    prompt: str
    response: str
    verdict: str


@dataclass(frozen=True, slots=True)
class SearchFinished(Event):
    """The search loop ended; `interrupted` where the user stopped it."""

    finished: int
    seconds: float
    interrupted: bool


@dataclass(frozen=True, slots=True)
class FrontChecked(Event):
    """An end of the front was measured again in the weights, by ordinary passes."""

    number: int
    scores: Scores
    searched: Scores
