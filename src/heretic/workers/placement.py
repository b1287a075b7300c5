"""What fits: how many workers, and how much of which devices each of them takes."""

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heretic.common.errors import ConfigurationError, ModelError
from heretic.config import Settings
from heretic.models.cost import DEVICES, USABLE, Device
from heretic.models.footprint import footprint_of
from heretic.models.host_memory import free_host_memory
from heretic.models.location import locate
from heretic.results.words import plural

CORES = 4
"""Cores that a worker has at least where their number is chosen: more processes than that wait for memory."""
_GPUS = re.compile(
    r"((?P<count>[1-9]\d{0,3})\s*x\s*)?"
    r"((?P<size>\d{1,6}(\.\d{1,6})?)\s*(?P<unit>[KMGT])(?P<binary>i?)B|(?P<kind>[A-Z]\w*))",
    re.IGNORECASE,
)
_COUNTED = ("cuda", "xpu")
"""Kinds of devices that tell how large they are, and that Ray gives out."""
_PARTS = 10_000
"""Ray counts GPUs in such parts."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Workers that are alike.

    Attributes:
        workers: How many; a single one is the run itself, unless it is on a cluster.
        gpus: That each takes: a share of one, or several whole ones; 0 where it computes on the CPU.
        threads: That each computes with on the CPU; 0 leaves it to the device.
        cluster: Address of a Ray cluster that was there before; empty for this machine alone.
    """

    workers: int
    gpus: float = 0.0
    threads: int = 0
    cluster: str = ""

    @property
    def is_alone(self) -> bool:
        """Whether the run measures by itself."""
        return self.workers == 1 and not self.cluster


ALONE = Placement(1)
"""The run measures by itself."""


@dataclass(frozen=True, slots=True)
class Room:
    """What of a model fits on GPUs.

    Attributes:
        together: Workers that share one GPU; 0 where one does not fit on it.
        whole: GPUs that one worker takes; 1 where they share.
        workers: That fit in all.
    """

    together: int
    whole: int
    workers: int

    @classmethod
    def on(cls, need: int, sizes: Sequence[int]) -> "Room":
        """By what one worker takes, and the size of each GPU, in bytes; the smallest GPU counts."""
        usable = USABLE * min(sizes)
        together, whole = int(usable // need), max(1, math.ceil(need / usable))
        return cls(together, whole, together * len(sizes) or len(sizes) // whole)

    def __str__(self) -> str:
        """E.g. ``one worker of 3 GPUs`` or ``up to 8 workers, 2 on each``."""
        if not self.workers:
            return f"none: a worker takes {self.whole} of them"
        if self.together:
            return f"up to {plural(self.workers, 'worker')}, {self.together} on each"
        count = "one worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{count} of {self.whole} GPUs"


def on_gpus(wanted: int | None, need: int, sizes: Sequence[int]) -> Placement:
    """Workers on this machine's GPUs.

    Args:
        wanted: How many; None for one a GPU, or as many as fit where each needs several.
        need: Bytes that one takes.
        sizes: Bytes of each GPU.

    Raises:
        ConfigurationError: They do not fit; says how many do.
    """
    room, here = Room.on(need, sizes), f"{gpus_text(sizes)} of GPU memory"
    if not room.workers:
        raise ConfigurationError(
            f"A worker takes about {gigabytes(need)}, for which {here} have no room; use --quantization bnb_4bit, "
            "or leave --workers out, so that what has no room on GPUs stays in the host's memory."
        )
    workers = wanted or (len(sizes) if room.together else room.workers)
    if workers > room.workers:
        raise ConfigurationError(
            f"{workers} workers of about {gigabytes(need)} each were asked for, but {here} have room for {room}; use "
            f"--workers {room.workers}."
        )
    if not room.together:
        return Placement(workers, float(room.whole))
    return Placement(workers, _PARTS // math.ceil(workers / len(sizes)) / _PARTS)


def on_cpus(wanted: int | None, need: int, cores: int, free: int) -> Placement:
    """Workers on this machine's processor, beside the process that leads them.

    Args:
        wanted: How many; None for one every few cores.
        need: Bytes that one takes.
        cores: That this process may use.
        free: Bytes of memory.

    Raises:
        ConfigurationError: They do not fit; says how many do.
    """
    room = max(int(USABLE * free // need) - 1, 1)
    workers = wanted or min(max(cores // CORES, 1), room)
    if workers > room:
        raise ConfigurationError(
            f"{workers} workers were asked for, but each takes about {gigabytes(need)}, as the run itself does, and "
            f"{gigabytes(free)} are free; use --workers {room}."
        )
    return Placement(workers, 0.0, max(cores // workers, 1))


def read_gpus(text: str) -> list[Device]:
    """The GPUs that a list stands for: kinds that the cost model knows, or their memory alone.

    Args:
        text: E.g. ``4xH100``, ``4x24GB`` or ``80GB,48GB``.

    Raises:
        ConfigurationError: It is none.
    """
    gpus: list[Device] = []
    for part in text.split(","):
        found = _GPUS.fullmatch(part.strip())
        if found is None or (found["kind"] and found["kind"].upper() not in DEVICES):
            raise ConfigurationError(
                f"--gpus {text} must be GPUs with their memory or their kind, e.g. 4x24GB, 80GB,48GB or 2xH100; kinds "
                f"are {', '.join(DEVICES)}."
            )
        if found["kind"]:
            device = DEVICES[found["kind"].upper()]
        else:
            unit = (1024 if found["binary"] else 1000) ** ("KMGT".index(found["unit"].upper()) + 1)
            device = Device("", 0.0, 0.0, int(float(found["size"]) * unit))
        gpus += [device] * int(found["count"] or 1)
    return gpus


def gpus_text(sizes: Sequence[int]) -> str:
    """E.g. ``4 x 24.0 GB``."""
    return " + ".join(f"{count} x {size}" for size, count in Counter(map(gigabytes, sizes)).items())


def gigabytes(count: int) -> str:
    """E.g. ``24.0 GB``."""
    return f"{count / 1e9:.1f} GB"


def on_cluster(wanted: int | None, need: int, sizes: Sequence[int], cluster: str, cores: int, gpus: int) -> Placement:
    """Workers of a Ray cluster, whose machines are taken to be like this one.

    Args:
        wanted: How many; None for as many as there is room for.
        need: Bytes that one takes.
        sizes: Bytes of each GPU of this machine; none where workers compute on processors.
        cluster: Its address.
        cores: Of the whole cluster.
        gpus: Likewise.

    Raises:
        ConfigurationError: They do not fit; says how many do.
    """
    if sizes:
        placement = on_gpus(wanted, need, [min(sizes)] * max(gpus, 1))
    else:
        workers = wanted or max(cores // CORES, 1)
        placement = Placement(workers, 0.0, max(cores // workers, 1))
    return replace(placement, cluster=cluster)


def placed_here(settings: Settings, wanted: int | None) -> Placement:
    """Workers on this machine; reads the headers of the model's weights.

    Raises:
        ConfigurationError: They do not fit.
    """
    sizes = gpu_sizes(settings)
    if sizes:
        need = need_of(settings)
        if settings.quantization != "none" and Room.on(need, sizes).together:
            # The run's own weights stay on the first.
            sizes[0] -= need
        return on_gpus(wanted, need, sizes)
    return on_cpus(wanted, need_of(settings), cores_here(), free_host_memory())


def of_lead(settings: Settings, placement: Placement) -> Settings:
    """The settings of a run that leads workers: its own model is on as many GPUs as a worker's, the first of them.

    Else it would be spread over all. Where a worker has several, both spread it over the same share of each.
    """
    if placement.is_alone or not placement.gpus or settings.device != "auto":
        return settings
    if placement.gpus > 1:
        if settings.device_map != "auto" or settings.max_memory is not None:
            return settings
        sizes = gpu_sizes(settings)[: int(placement.gpus)]
        # In MB, as accelerate reads them; a worker's GPUs have the same numbers, since it sees no others.
        return settings.model_copy(
            update={"max_memory": {str(number): f"{int(USABLE * size / 1e6)}MB" for number, size in enumerate(sizes)}}
        )
    from heretic.models.devices import pick_device  # imports torch, see above

    return settings.model_copy(update={"device": f"{pick_device('auto').type}:0"})


def cores_here() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_sizes(settings: Settings) -> list[int]:
    """Bytes of this machine's GPUs that workers can have; none where they compute on its processor.

    Raises:
        ConfigurationError: It has another device, which processes cannot share.
    """
    import torch  # takes seconds, and `heretic plan` does without

    from heretic.models.devices import device_count, pick_device

    kind = pick_device(settings.device).type
    if kind == "cpu":
        return []
    if kind not in _COUNTED:
        raise ConfigurationError(f"Workers cannot share a device of the kind {kind}; leave --workers out.")
    backend = getattr(torch, kind)
    return [int(backend.get_device_properties(index).total_memory) for index in range(device_count(kind))]


def need_of(settings: Settings) -> int:
    """Bytes that one worker takes; where nothing tells that, they are taken to fit."""
    try:
        return footprint_of(locate(settings.model or ""), settings).worker
    except ModelError:
        return 1
