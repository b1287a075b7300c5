"""Events of loading a model and prompts and of finding out how to run it."""

from collections.abc import Mapping
from dataclasses import dataclass

from heretic.observability.events.bus import Event


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
    """The model generates finite logits with this dtype. `remark` says what was done to its weights, if anything."""

    model: str
    architecture: str
    parameter_count: int
    dtype: str
    device: str
    seconds: float
    remark: str = ""


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
    """What was discovered about the model, in this run, or where it is `kept` in an earlier one of the study."""

    batch_size: int
    response_prefix: str
    threads: int = 0
    kept: bool = False


@dataclass(frozen=True, slots=True)
class WeightsCached(Event):
    """The restore cache was filled. `share` is its part of the model's bytes."""

    tensor_count: int
    bytes: int
    share: float
    device: str


@dataclass(frozen=True, slots=True)
class SlowerPasses(Event):
    """The model is not read by ragged passes for something: why, and about how long it takes instead."""

    doing: str
    reason: str
    cost: str


@dataclass(frozen=True, slots=True)
class WarmStarted(Event):
    """The first trials are plans of profiles for the model's family: so many of the user's own, and shipped ones."""

    family: str
    own: int
    shipped: int


@dataclass(frozen=True, slots=True)
class StartedFrom(Event):
    """The first trial takes the plan of a saved edit: where it is, of which model, and what is not carried over."""

    folder: str
    model: str
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProfilesKept(Event):
    """So many of a finished study's best plans were added to the user's profile store."""

    path: str
    family: str
    count: int
