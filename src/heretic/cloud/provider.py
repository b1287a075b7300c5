"""What every provider of rented machines can do, and how one is found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from heretic.cloud.keys import read_key, setting
from heretic.cloud.machines import Machine, Offer, Order, Wish
from heretic.cloud.tiers import Tier
from heretic.common.errors import CloudError, ConfigurationError
from heretic.common.registry import Registry

PACKAGES = "pip install 'heretic[cloud]'"


class OfferGone(CloudError):
    """Somebody else has taken the offer; nothing was rented."""


class TooManyRequests(CloudError):
    """The provider wants us to wait; nothing was done.

    Attributes:
        seconds: How long.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class AnswerLost(CloudError):
    """No answer came, so that what was asked for may have been done or not."""


class NoSuchMachine(CloudError):
    """The provider has no such machine (any more)."""


class Provider(Protocol):
    """A provider; every method but `rent` may be called again after an error, and all raise CloudError."""

    def offers(self, tier: Tier, wish: Wish) -> list[Offer]:
        """What can be rented now."""

    def rent(self, offer: Offer, order: Order) -> str:
        """Rent it, asking once; gives the machine's id.

        Raises:
            OfferGone: Nothing was rented.
            TooManyRequests: Nothing was rented.
            AnswerLost: It may have been rented.
        """

    def machines(self) -> list[Machine]:
        """Ours, all pages of them."""

    def machine(self, machine_id: str) -> Machine | None:
        """One of ours; None where there is none of that id."""

    def start(self, machine: Machine) -> None:
        """Let it run again."""

    def stop(self, machine: Machine) -> None:
        """Stop it; its disk is kept and paid for."""

    def destroy(self, machine_id: str) -> None:
        """Give it back with its disk.

        Raises:
            NoSuchMachine: It is gone already.
        """

    def attach_key(self, machine_id: str, public_key: str) -> None:
        """Let an SSH key log in."""

    def balance(self) -> float | None:
        """Dollars left; None where the provider does not say. Shows whether the key is accepted."""


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """How a provider is reached.

    Attributes:
        name: As it is asked for; its program is ``heretic-NAME``.
        title: As people write it.
        key_variable: Variable that holds the key.
        key_page: Where a person makes one.
        address_variable: Variable that names another address than `address`.
        address: The API's.
        image: Container image that machines begin with.
        connect: Makes the provider of key and address.
        storage_rule: What stopped machines cost, in a sentence.
        keeps_system: Whether a stopped machine keeps all of its disk, and so its SSH host key.
    """

    name: str
    title: str
    key_variable: str
    key_page: str
    address_variable: str
    address: str
    image: str
    connect: Callable[[str, str], Provider]
    storage_rule: str
    keeps_system: bool

    def open(self, environment: Mapping[str, str], folder: Path) -> Provider:
        """The provider, with the user's key.

        Raises:
            ConfigurationError: There is no key, it is none, or the address is none.
            CloudError: A package is not installed.
        """
        key = read_key(self.key_variable, self.key_page, environment, folder)
        address = (setting(self.address_variable, environment, folder) or self.address).rstrip("/")
        local = address.startswith(("http://127.0.0.1:", "http://localhost:"))
        if not (address.startswith("https://") or local) or "@" in address:
            raise ConfigurationError(f"{self.address_variable} must begin with https://, as the key is sent there.")
        try:
            return self.connect(key, address)
        except ImportError as error:
            raise CloudError(f"The package {error.name} is not installed; run {PACKAGES}.") from error


PROVIDERS: Registry[ProviderKind] = Registry("provider", "heretic.cloud.providers")


def ours(machines: Sequence[Machine], name: str | None, program: str) -> Machine:
    """The machine that is meant: by id or name, or the only one.

    Raises:
        ConfigurationError: There is none, or more than one.
    """
    if name is None and not machines:
        raise ConfigurationError(f"There is no machine; '{program} create TIER' rents one.")
    named = [machine for machine in machines if name in (None, machine.id, machine.name, machine.label)]
    if len(named) == 1:
        return named[0]
    which = ", ".join(f"{machine.id} ({machine.name})" for machine in (named or machines)) or "none"
    if named:
        raise ConfigurationError(f"There are several machines: {which}; say which one.")
    raise ConfigurationError(f"There is no machine {str(name)[:60]!r}; those labelled heretic: are {which}.")
