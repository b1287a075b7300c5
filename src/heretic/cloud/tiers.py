"""Kinds of GPUs that can be asked for, and how much disk a model needs; pure."""

import math
import re
from dataclasses import dataclass

from heretic.cloud.machines import Offer
from heretic.common.errors import ConfigurationError
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
USABLE = 0.9
"""Share of a GPU's memory that a run may take."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A kind of GPU.

    Attributes:
        name: As it is asked for.
        memory: GB of one.
        vast: What Vast calls it.
        runpod: What RunPod calls it.
    """

    name: str
    memory: int
    vast: tuple[str, ...]
    runpod: tuple[str, ...]


TIERS = {
    tier.name: tier
    for tier in (
        Tier("RTX_4090", 24, ("RTX 4090",), ("NVIDIA GeForce RTX 4090",)),
        Tier("A6000", 48, ("RTX A6000",), ("NVIDIA RTX A6000",)),
        Tier("A100_40GB", 40, ("A100 PCIE", "A100 SXM4"), ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB")),
        Tier("A100_80GB", 80, ("A100 PCIE", "A100 SXM4"), ("NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB")),
        Tier("H100", 80, ("H100 PCIE", "H100 SXM", "H100 NVL"), ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe")),
        Tier("H200", 141, ("H200", "H200 NVL"), ("NVIDIA H200", "NVIDIA H200 NVL")),
    )
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A usual model of a size, from which the table of tiers says what fits."""

    parameters: int
    hidden: int
    inner: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int


USUAL = {
    "7-8 B": Shape(8_030_000_000, 4096, 14336, 32, 32, 8, 128_256),
    "14-32 B": Shape(32_800_000_000, 5120, 27648, 64, 40, 8, 152_064),
    "70 B": Shape(70_600_000_000, 8192, 28672, 80, 64, 8, 128_256),
}


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


def usual_footprint(shape: Shape) -> Footprint:
    """What a run with a usual model of this size takes, in bfloat16."""
    configuration = {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "vocab_size": shape.vocabulary,
    }
    return Footprint((Tensor("weights", "BF16", (shape.parameters,)),), configuration, Work("bfloat16", 100, 8))


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
