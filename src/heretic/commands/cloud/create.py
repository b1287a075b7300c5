"""``heretic cloud create``: rent a machine."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional, price, switch, whole
from heretic.commands.cloud.base import Account, CloudArguments, account, footprint_there, show_machines
from heretic.common.errors import CloudError, ConfigurationError

if TYPE_CHECKING:
    from heretic.cloud.machines import Machine, Offer, Wish
    from heretic.cloud.renting import Renter
    from heretic.cloud.tiers import Tier
    from heretic.interface.printer import Printer
    from heretic.models.footprint import Footprint

_UNKNOWN_MODEL_DISK = 100
_GIGABYTES = whole("a number of GB from 10 to 10000", 10, 10_000)


@dataclass(frozen=True, slots=True)
class CreateArguments(CloudArguments):
    """What is asked for."""

    wish: tuple[str, ...] = positional("TIER [GPUS]")
    model: str | None = option("MODEL", "The model that will be edited; the disk is made large enough for it.")
    disk: int | None = option("GB", "Size of the disk. [2 x the model + 20]", read=_GIGABYTES)
    max_price: float | None = option("DOLLARS", "Rent nothing that costs more an hour.", read=price)
    bid: float | None = option("DOLLARS", "Pay so much an hour until somebody bids more (Vast).", read=price)
    name: str | None = option("NAME", "What to call the machine. [the tier and the time]")
    image: str | None = option("IMAGE", "Container image to begin with. [one with torch]")
    secure: bool = switch("Only machines of data centres.")
    yes: bool = switch("Rent without asking.")

    def __post_init__(self) -> None:
        if len(self.wish) > 2:
            raise ConfigurationError(f"A tier and a number of GPUs can be named, but not {self.wish[2]!r} as well.")


def run(arguments: CreateArguments, printer: "Printer") -> int:
    """Rent a machine and wait until it can be used; returns the exit code.

    Raises:
        ConfigurationError: Something that was asked for cannot be.
        CloudError: No machine was rented, or it could not be used and was given back.
    """
    from heretic.cloud.machines import Order
    from heretic.cloud.renting import Renter
    from heretic.cloud.shell import reaches
    from heretic.interface.asking import agrees
    from heretic.interface.cloud_lines import offer_rows
    from heretic.interface.formatting import dollars

    tier, wish, footprint = _wish(arguments)
    name = _name(arguments, tier)
    ours = account(arguments)
    access = ours.access()
    order = Order(name, arguments.image or ours.kind.image, wish.disk, access.public_key(), _environment())
    renter = Renter(ours.provider, ours.program, printer.line, lambda machine: reaches(access, machine))
    machines = renter.patiently(ours.provider.machines)
    if machines:
        show_machines(machines, printer)
    if any(machine.name == name for machine in machines):
        raise ConfigurationError(f"There is a machine called {name} already; choose another --name.")
    offers = _offers(arguments, ours, renter, tier, wish)
    _say_what_fits(tier, wish, footprint, printer)
    printer.rows(offer_rows(offers[0], wish.disk, ours.kind.storage_rule))
    question = f"Rent it for {dollars(offers[0].price)} an hour?"
    if not arguments.yes and not agrees(question, "Run again with --yes to rent without being asked."):
        printer.line("Nothing was rented.")
        return 0
    # A dearer one is not what was agreed to.
    machine = renter.rent([offer for offer in offers if offer.price <= offers[0].price * 1.05], order)
    _say_ready(ours, machine, arguments.model, printer)
    return 0


def _wish(arguments: CreateArguments) -> "tuple[Tier, Wish, Footprint | None]":
    from heretic.cloud.machines import Wish
    from heretic.cloud.tiers import checked_disk, disk_needed, gpu_count, tier_named

    tier = tier_named(arguments.wish[0])
    try:
        gpus = gpu_count(arguments.wish[1]) if arguments.wish[1:] else 1
    except ValueError as error:
        raise ConfigurationError(f"What follows the tier must be {error}, but is {arguments.wish[1][:40]}.") from error
    footprint = None if arguments.model is None else footprint_there(arguments.model)
    needed = _UNKNOWN_MODEL_DISK if footprint is None else disk_needed(footprint.stored)
    disk = needed if footprint is None and arguments.disk is None else arguments.disk
    disk = checked_disk(arguments.disk, needed) if footprint is not None else disk or needed
    return tier, Wish(tier.name, gpus, disk, arguments.secure, arguments.bid), footprint


def _name(arguments: CreateArguments, tier: "Tier") -> str:
    import secrets

    from heretic.cloud.keys import checked_name

    if arguments.name is not None:
        return checked_name(arguments.name)
    return f"{tier.name.lower().replace('_', '-')}-{secrets.token_hex(3)}"


def _environment() -> tuple[tuple[str, str], ...]:
    """Variables of the machine's container: what is large goes to the disk that is kept."""
    import os
    from pathlib import Path

    from heretic.cloud.work import workspace

    return (("HF_HOME", f"{workspace(os.environ, Path.cwd())}/hub"),)


def _offers(arguments: CreateArguments, ours: Account, renter: "Renter", tier: "Tier", wish: "Wish") -> "list[Offer]":
    from heretic.cloud.tiers import affordable
    from heretic.interface.formatting import dollars

    found = renter.patiently(lambda: ours.provider.offers(tier, wish))
    offers = affordable(found, arguments.max_price)
    if offers:
        return offers
    if wish.bid is not None and not found:
        raise CloudError(
            f"{ours.kind.title} has no machine with {wish.gpus} x {tier.name} and {wish.disk} GB of disk for which "
            f"{dollars(wish.bid)} an hour are enough now; bid more, or leave --bid out."
        )
    what = f"{wish.gpus} x {tier.name} with {wish.disk} GB of disk"
    if found:
        cheapest = affordable(found, None)[0]
        raise CloudError(f"No machine with {what} costs so little: the cheapest is {dollars(cheapest.price)} an hour.")
    raise CloudError(f"{ours.kind.title} has no machine with {what} now; '{ours.program} gpus' lists what there is.")


def _say_what_fits(tier: "Tier", wish: "Wish", footprint: "Footprint | None", printer: "Printer") -> None:
    from heretic.cloud.tiers import GB, memory_needed
    from heretic.interface.formatting import size
    from heretic.models.cost import USABLE

    if footprint is None:
        printer.row("Model", "not named, so that neither disk nor memory were compared with it (--model)")
        return
    room, need = int(USABLE * tier.memory * GB) * wish.gpus, memory_needed(footprint)
    enough = "" if need <= room else "; too much unless it is quantised (--quantization) or in smaller batches"
    printer.row(
        "Model", f"{size(footprint.stored)} in its files; a run takes about {size(need)} of {size(room)}{enough}"
    )


def _say_ready(ours: Account, machine: "Machine", model: str | None, printer: "Printer") -> None:
    printer.line(f"Ready: {machine.id} ({machine.name}). It is paid for until you give it back.")
    printer.line(f"  {ours.program} setup                installs heretic there")
    printer.line(f"  {ours.program} run {model or 'MODEL'}")
    printer.line(f"  {ours.program} terminate            gives it back")


COMMAND = Command(
    "create",
    CreateArguments,
    run,
    summary="Rent a machine.",
    description="""\
Rent the cheapest machine of a tier, after a yes: price and disk are shown
first, and what is rented already. A machine that is not ready after 10 minutes
is given back. It is paid for until terminate, whatever it does.""",
    examples={
        "A100_80GB 2 --model Qwen/Qwen2.5-32B-Instruct": "Two GPUs, and disk enough for that model.",
        "RTX_4090 --model demo --max-price 0.5 --yes": "The toy model, without a question.",
    },
)
