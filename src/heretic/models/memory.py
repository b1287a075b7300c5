"""How much memory this process uses, on the host and on devices, and what it has computed: for whoever watches."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types
import torch

from heretic.models.devices import empty_cache, free_host_memory, free_memory
from heretic.observability.events import MemoryRanOut, emit

MemoryUse = Mapping[str, Mapping[str, int]]
"""Place (``host``, ``cuda:0``, ``mps``, ...) -> ``used_bytes``, ``peak_bytes`` (where it is known) and
``available_bytes``, of which all but the last are this process's own; on devices also ``reserved_bytes``, which torch
holds for what comes next."""

_WITH_STATISTICS = ("cuda", "xpu", "npu")


@dataclass
class Usage:
    """Counters of this process; they only ever grow.

    Attributes:
        tokens: Tokens that went through a model, read or written.
        out_of_memory: Allocations that failed, those included that looked for the largest batch that fits.
    """

    tokens: int = 0
    out_of_memory: int = 0


USAGE = Usage()
"""Memory belongs to the process, and so does what has been counted."""


def memory_use() -> dict[str, dict[str, int]]:
    """See MemoryUse. Cheap enough for every step, and asks no device that the process does not use already."""
    return {"host": _host(), **dict(_devices())}


def memory_text(use: MemoryUse) -> str:
    """One line, e.g. ``host 0.8 GB used, at most 0.9 GB, 3.2 GB free; cuda:0 ...``."""
    return "; ".join(f"{place} {_amounts(amounts)}" for place, amounts in use.items())


def memory_ran_out(device: torch.device, doing: str) -> str:
    """Report that memory ran out, and free what can be freed; call it outside the exception's handler.

    Emits MemoryRanOut.

    Args:
        device: Whose cache is emptied.
        doing: What it ran out in, e.g. ``counting refusals``.

    Returns:
        What was used when it ran out, for a message.
    """
    use = memory_use()
    USAGE.out_of_memory += 1
    emit(MemoryRanOut(doing, use))
    empty_cache(device)
    return memory_text(use)


def _amounts(amounts: Mapping[str, int]) -> str:
    parts = [f"{_gigabytes(amounts['used_bytes'])} used"]
    if "peak_bytes" in amounts:
        parts.append(f"at most {_gigabytes(amounts['peak_bytes'])}")
    return ", ".join([*parts, f"{_gigabytes(amounts['available_bytes'])} free"])


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


@lru_cache(maxsize=1)
def _process() -> Any:
    return psutil.Process()


def _host() -> dict[str, int]:
    used = int(_process().memory_info().rss)
    # Both numbers are kept by the system at different times.
    return {"used_bytes": used, "peak_bytes": max(_peak(), used), "available_bytes": free_host_memory()}


def _peak() -> int:
    """The most host memory that this process ever had, in bytes."""
    if sys.platform == "win32":
        return int(_process().memory_info().peak_wset)
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes, but bytes on macOS.
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def _devices() -> Iterator[tuple[str, dict[str, int]]]:
    for kind in _WITH_STATISTICS:
        backend: Any = getattr(torch, kind, None)
        # A device that nobody has used is not woken up.
        if backend is None or not backend.is_available() or not backend.is_initialized():
            continue
        for index in range(backend.device_count()):
            reserved = int(backend.memory_reserved(index))
            if reserved:
                device = torch.device(kind, index)
                yield (
                    str(device),
                    {
                        "used_bytes": int(backend.memory_allocated(index)),
                        "reserved_bytes": reserved,
                        "peak_bytes": int(backend.max_memory_allocated(index)),
                        "available_bytes": free_memory(device),
                    },
                )
    if torch.backends.mps.is_available() and torch.mps.current_allocated_memory():
        used = {
            "used_bytes": int(torch.mps.current_allocated_memory()),
            "reserved_bytes": int(torch.mps.driver_allocated_memory()),
        }
        yield "mps", {**used, "available_bytes": free_memory(torch.device("mps"))}
