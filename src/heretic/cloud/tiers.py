"""Kinds of GPUs that can be asked for, and how much disk a model needs; pure."""

import math
import re
from dataclasses import dataclass

from heretic.cloud.machines import Offer
from heretic.common.errors import ConfigurationError
from heretic.models import cost
from heretic.models.cost import USABLE, UsualModel
from heretic.models.footprint import PROGRAM, Footprint, Work, needs
from heretic.models.weight_headers import Tensor

GB = 1_000_000_000
SMALLEST_DISK = 60
"""GB: image, packages and what is left over."""
DISK_BESIDE = 20
"""GB beside the model and its edited copy."""
DISK_FLOORS = ((60 * GB, 200), (130 * GB, 400))
"""Models from so many bytes on (32 and 70 billion parameters) get at least so many GB."""
MOST_GPUS = 16


@dataclass(frozen=True, slots=True)
class Tier:
    """A kind of GPU.

    Attributes:
        name: As it is asked for.
        vast: What Vast calls it.
        runpod: What RunPod calls it.
    """

    name: str
    vast: tuple[str, ...]
    runpod: tuple[str, ...]

    @property
    def memory(self) -> int:
        """GB of one."""
        return round(cost.DEVICES[self.name].memory / GB)


TIERS = {
    tier.name: tier
    for tier in (
        Tier("RTX_4090", ("RTX 4090",), ("NVIDIA GeForce RTX 4090",)),
        Tier("A6000", ("RTX A6000",), ("NVIDIA RTX A6000",)),
        Tier("A100_40GB", ("A100 PCIE", "A100 SXM4"), ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB")),
        Tier("A100_80GB", ("A100 PCIE", "A100 SXM4"), ("NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB")),
        Tier("H100", ("H100 PCIE", "H100 SXM", "H100 NVL"), ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe")),
        Tier("H200", ("H200", "H200 NVL"), ("NVIDIA H200", "NVIDIA H200 NVL")),
    )
}


USUAL = {"7-8 B": cost.USUAL["8 B"], "14-32 B": cost.USUAL["32 B"], "70 B": cost.USUAL["70 B"]}
"""Models from which the table of tiers says what fits."""


def tier_named(name: str) -> Tier:
    """The tier of that name, in any case.

    Raises:
        ConfigurationError: There is none.
    """
    tier = TIERS.get(name.upper())
    if tier is None:
        raise ConfigurationError(f"There is no tier {name[:40]!r}; choose one of {', '.join(TIERS)}.")
    return tier


def memory_needed(footprint: Footprint) -> int:
    """Bytes that a run takes of GPUs at its peak, by the figures of ``heretic plan``."""
    return max(need.bytes for need in needs(footprint, 10**15)) - PROGRAM


def gpus_needed(tier: Tier, size: Footprint) -> int:
    """How many GPUs of a tier hold a model and what a run keeps beside it."""
    return math.ceil(memory_needed(size) / (USABLE * tier.memory * GB))


def usual_footprint(model: UsualModel) -> Footprint:
    """What a run with a model of this size takes, in bfloat16."""
    weights = Tensor("weights", "BF16", (model.parameters,))
    return Footprint((weights,), dict(model.configuration), Work("bfloat16", 100, 8))


def disk_needed(model_bytes: int) -> int:
    """GB of disk for a model of so many bytes: twice its size, since the edited one is saved too, and some more."""
    floors = [gigabytes for size, gigabytes in DISK_FLOORS if model_bytes >= size]
    return max(math.ceil(2 * model_bytes / GB) + DISK_BESIDE, SMALLEST_DISK, *floors)


def checked_disk(asked: int | None, needed: int) -> int:
    """The disk to rent in GB.

    Raises:
        ConfigurationError: Less was asked for than the model needs.
    """
    if asked is not None and asked < needed:
        raise ConfigurationError(
            f"The model and its edited copy need {needed} GB of disk, and --disk asks for {asked}; write --disk "
            f"{needed} or more."
        )
    return needed if asked is None else asked


_COUNT = re.compile(r"[1-9]\d?")


def gpu_count(text: str) -> int:
    """How many GPUs are asked for; a ValueError says what it must be."""
    if not _COUNT.fullmatch(text) or int(text) > MOST_GPUS:
        raise ValueError(f"a number of GPUs from 1 to {MOST_GPUS}")
    return int(text)


def affordable(offers: list[Offer], max_price: float | None) -> list[Offer]:
    """Offers that cost no more than that an hour, the cheapest first."""
    return sorted(
        (offer for offer in offers if max_price is None or offer.price <= max_price), key=lambda offer: offer.price
    )
