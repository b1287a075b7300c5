"""Events of where a search starts: stored plans and gradient seeding."""

from dataclasses import dataclass

from heretic.observability.events.event import Event


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
