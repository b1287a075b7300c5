"""What providers rent out, as plain values: offers, machines and their states."""

from dataclasses import dataclass
from enum import Enum

LABEL = "heretic:"
"""What the names of our machines begin with at the provider; nothing else there is ever touched."""
HOURS_A_MONTH = 730


class State(str, Enum):
    """How a machine is; what a provider says beyond these is unknown."""

    LOADING = "loading"
    RUNNING = "running"
    STOPPED = "stopped"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a machine's SSH server is."""

    host: str
    port: int
    user: str = "root"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is looked for.

    Attributes:
        tier: Name out of `tiers.TIERS`.
        gpus: How many in one machine.
        disk: GB.
        secure: Whether only data centres are asked.
        bid: Dollars an hour for a machine that whoever bids more takes away; None for one that stays.
    """

    tier: str
    gpus: int
    disk: int
    secure: bool = False
    bid: float | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that can be rented.

    Attributes:
        id: The provider's.
        gpu: Name of its GPUs.
        gpus: How many.
        price: Dollars an hour.
        storage: Dollars a month for its disk, which is paid for while the machine is stopped too; None where the
            provider does not say.
        place: Where it is.
        interruptible: Whether its price is a bid, and whoever bids more takes it away.
    """

    id: str
    gpu: str
    gpus: int
    price: float
    storage: float | None = None
    place: str = ""
    interruptible: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What a rented machine begins with.

    Attributes:
        name: What it is called; the label at the provider begins with `LABEL`.
        image: Container image.
        disk: GB.
        public_key: The SSH key that may log in.
        environment: Variables of its container.
    """

    name: str
    image: str
    disk: int
    public_key: str
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """What it is called at the provider."""
        return LABEL + self.name


@dataclass(frozen=True, slots=True)
class Machine:
    """A rented machine of ours.

    Attributes:
        id: The provider's.
        label: Begins with `LABEL`.
        state: How it is.
        said: That in the provider's words.
        gpu: Name of its GPUs.
        gpus: How many.
        price: Dollars an hour while it runs.
        disk: GB; 0 where the provider does not say.
        started: Seconds since 1970; None where the provider does not say.
        endpoint: Where its SSH server is; None while it has none.
        only_proxy: Whether it can be reached by a proxy for terminals alone, which takes no files.
        interruptible: Whether whoever bids more takes it away.
    """

    id: str
    label: str
    state: State
    said: str
    gpu: str
    gpus: int
    price: float
    disk: int = 0
    started: float | None = None
    endpoint: Endpoint | None = None
    only_proxy: bool = False
    interruptible: bool = False

    @property
    def name(self) -> str:
        """The label without what all of ours begin with."""
        return self.label.removeprefix(LABEL)

    def cost(self, now: float) -> float | None:
        """Dollars since it was rented, as if it had run all the time; None where that is not known."""
        return None if self.started is None else max(now - self.started, 0.0) / 3600 * self.price
