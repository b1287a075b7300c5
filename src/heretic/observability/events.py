"""What happens during a run, as frozen payloads; everybody may emit, interface and observability subscribe.

Payloads hold plain values and measured scores only: this module imports nothing that needs a model.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from heretic.held_out import HeldOut
from heretic.redaction import without_secrets
from heretic.score import Scores


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """First line of a run: which settings it runs with. `profile` names a built-in set of defaults, e.g. ``demo``."""

    version: str
    model: str
    configuration_file: str | None
    profile: str | None
    changed_settings: Mapping[str, str]
    """Settings that differ from the defaults, as text, with the source: ``n_trials -> "60 (command line)"``."""


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something the user should know, in one sentence."""

    message: str


@dataclass(frozen=True, slots=True)
class LibraryLogged(Event):
    """A library logged something, or warned as Python does (library ``py.warnings``); `level` in small letters."""

    library: str
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class MemoryRanOut(Event):
    """An allocation failed. What was being done is tried with less, or fails with a message of its own.

    `memory` is what was used by then: place (``host``, ``cuda:0``, ...) to amounts, see `heretic.models.memory`.
    """

    doing: str
    memory: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """Last event of a run. `error` is the message where one ended it, with the traceback of an unforeseen one."""

    exit_code: int
    seconds: float
    error: str = ""
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class VerificationStarted(Event):
    """The files of a model are about to be compared with its manifest, which reads all of them."""

    model: str
    file_count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FilesVerified(Event):
    """Every file of a model is as its manifest says."""

    file_count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelLoading(Event):
    """A model is about to be loaded with one dtype of the chain."""

    model: str
    dtype: str


@dataclass(frozen=True, slots=True)
class DtypeRejected(Event):
    """One dtype of the fallback chain did not work."""

    dtype: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelLoaded(Event):
    """The model generates finite logits with this dtype."""

    model: str
    architecture: str
    parameter_count: int
    dtype: str
    device: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LayoutFound(Event):
    """What can be edited. `writers` maps component to number of writers (an expert list counts each expert)."""

    family: str
    layer_count: int
    hidden_size: int
    writers: Mapping[str, int]
    uneditable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptsLoaded(Event):
    """One prompt set was read. `role` is the setting's name, e.g. ``good_prompts``."""

    role: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class BatchSizeMeasured(Event):
    """One step of calibration; `tokens_per_second` is None where memory ran out."""

    batch_size: int
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class Calibrated(Event):
    """What was discovered about the model."""

    batch_size: int
    response_prefix: str


@dataclass(frozen=True, slots=True)
class WeightsCached(Event):
    """The restore cache was filled. `share` is its part of the model's bytes."""

    tensor_count: int
    bytes: int
    share: float
    device: str


@dataclass(frozen=True, slots=True)
class RoundFinished(Event):
    """Directions were extracted again from the edited model; with a `reason` they were not kept.

    `magnitude` is the class difference that was left, relative to the first round's. `divergence` is what taking them
    out as well changes, in nats; None where it was not measured.
    """

    number: int
    magnitude: float
    divergence: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class PositionChosen(Event):
    """COSMIC chose the layer whose direction all layers lose; scores by candidate layer, higher is better."""

    layer: int
    scores: Mapping[int, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class DirectionsFound(Event):
    """Directions were extracted. `quality` has one value per residual position (layers + 1)."""

    method: str
    count_per_layer: int
    quality: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class DirectionsSaved(Event):
    """A direction file was written, with the projections of so many prompts of both classes (0: without)."""

    path: str
    target_prompts: int
    baseline_prompts: int


@dataclass(frozen=True, slots=True)
class PlansAdjusted(Event):
    """Something that changes every plan of the run was found; `note` is a sentence."""

    name: str
    note: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BaselineMeasured(Event):
    """The unedited model's own numbers: a score for every behaviour, and on how many prompts KL is measured."""

    behaviors: Scores
    kl_prompt_count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StudyOpened(Event):
    """A study was created (finished == 0) or resumed."""

    name: str
    storage: str
    finished: int
    n_trials: int


@dataclass(frozen=True, slots=True)
class WarmStarted(Event):
    """The first trials are plans of profiles for the model's family: so many of the user's own, and shipped ones."""

    family: str
    own: int
    shipped: int


@dataclass(frozen=True, slots=True)
class ProfilesKept(Event):
    """So many of a finished study's best plans were added to the user's profile store."""

    path: str
    family: str
    count: int


@dataclass(frozen=True, slots=True)
class TrialFinished(Event):
    """One trial ended. `reason` is empty unless it failed or was stopped because a finished trial dominates it.

    `scores` are empty where it failed; of a stopped one they are what was seen so far. `on_front`: no finished trial is
    better in all numbers.

    `number` is Optuna's, from 0, as in TrialRecord; people are shown it plus one.
    """

    number: int
    n_trials: int
    scores: Scores
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
class EngineChosen(Event):
    """How trials are measured: `candidates` to a batch; `obstacle` says why not in batches, or is empty.

    `shared_tokens` stand at the beginning of every prompt; `kept_bytes` of lower layers are kept across trials.
    """

    name: str
    candidates: int
    obstacle: str = ""
    shared_tokens: int = 0
    kept_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SeedingStarted(Event):
    """Gradient seeding begins: so many steps in all, with the prompts and the first tokens that it looks at.

    `shared_tokens` at the beginning of all prompts are read once a step; `dtype` is what passes are computed in.
    """

    steps: int
    good_prompts: int
    bad_prompts: int
    onset: tuple[str, ...]
    shared_tokens: int
    dtype: str


@dataclass(frozen=True, slots=True)
class GradientStep(Event):
    """One step of `steps`: its prompts' mean KL, and the mean probability that the behaviour begins."""

    step: int
    steps: int
    weight: float
    kl: float
    share: float


@dataclass(frozen=True, slots=True)
class SeedFound(Event):
    """Strengths for one weight of the log-odds; KL and share are means over the training prompts of its last steps."""

    weight: float
    steps: int
    kl: float
    share: float


@dataclass(frozen=True, slots=True)
class SeedingFinished(Event):
    """The search starts from so many seeds; `stored` where an earlier run had found them."""

    seeds: int
    seconds: float
    stored: bool


@dataclass(frozen=True, slots=True)
class RefinementStarted(Event):
    """Directions are refined by gradient: so many steps, with the prompts and the first tokens that are looked at."""

    steps: int
    good_prompts: int
    bad_prompts: int
    onset: tuple[str, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class RefinementFinished(Event):
    """Means over the last steps' training prompts, and the mean cosine of the directions with those they were."""

    kl: float
    share: float
    cosine: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RefinementKept(Event):
    """The refined directions are those that the study keeps from an earlier run."""


@dataclass(frozen=True, slots=True)
class TrialRaised(Event):
    """Measuring these trials failed in a way that nobody foresaw; `where` is the traceback, for the log."""

    numbers: tuple[int, ...]
    reason: str
    where: str


@dataclass(frozen=True, slots=True)
class FrontChecked(Event):
    """An end of the front was measured again in the weights, by ordinary passes."""

    number: int
    scores: Scores
    searched: Scores


@dataclass(frozen=True, slots=True)
class SearchStarted(Event):
    """The search loop begins: `finished` of `n_trials` trials are there already.

    The scores of the best of these (least of the behaviour, then lowest KL) go along where there is one.
    """

    finished: int
    n_trials: int
    best: Scores = ()
    states: Mapping[str, int] = field(default_factory=dict)
    """Finished trials by state: ``complete``, ``dominated``, ``pruned``, ``failed``."""
    lowest_kl: float | None = None
    """Of the complete trials."""


@dataclass(frozen=True, slots=True)
class SearchFinished(Event):
    """The search loop ended; `interrupted` where the user stopped it."""

    finished: int
    seconds: float
    interrupted: bool


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
class TrialApplied(Event):
    """A chosen trial is in the weights and was measured again."""

    number: int
    scores: Scores
    searched: Scores


@dataclass(frozen=True, slots=True)
class HeldOutMeasured(Event):
    """The applied trial was measured on held-out prompts; `searched` are its scores on the search's prompts."""

    number: int
    held_out: HeldOut
    searched: Scores
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
    """A report was written beside a saved model."""

    path: str


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


Handler = Callable[[Event], None]
_handlers: list[Handler] = []


def emit(event: Event) -> None:
    """Pass an event to every subscriber, in the order of subscription; no secret gets that far."""
    if _handlers:
        event = without_secrets(event)
    for handler in tuple(_handlers):
        handler(event)


@contextmanager
def subscribed(handler: Handler) -> Iterator[None]:
    """Subscribe for the duration of a with-block."""
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)


@dataclass(frozen=True, slots=True)
class CapabilityStarted(Event):
    """The ``unedited`` or ``edited`` model (`which`) is asked so many questions, and runs these benchmarks."""

    which: str
    source: str
    questions: int
    benchmarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CapabilityMeasured(Event):
    """What the edited model is able to do beside the unedited one, see capability.CapabilityResult.to_json."""

    result: Mapping[str, Any]
    seconds: float
