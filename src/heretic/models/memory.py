"""Memory: how much this process uses, what it has computed, and what is done when memory runs out."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types
import torch

from heretic.common.errors import OutOfMemoryError
from heretic.models.devices import empty_cache, free_memory, is_out_of_memory
from heretic.models.host_memory import free_host_memory, give_back_freed
from heretic.observability.events import MemoryRanOut, Warned, emit
from heretic.observability.steps import step

T = TypeVar("T")

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
    return "; ".join(f"{place} {amounts_text(amounts)}" for place, amounts in use.items())


@dataclass(frozen=True, slots=True)
class RanOut:
    """That memory ran out; `used` is what was used then, for a message."""

    used: str


def attempt(work: Callable[[], T], device: torch.device, doing: str) -> T | RanOut:
    """Do something that may need more memory than there is.

    Args:
        work: What to do.
        device: Whose cache is emptied where memory runs out.
        doing: The same in words, e.g. ``counting refusals``.

    Returns:
        The result, or that memory ran out: then whatever can be freed is free. Emits MemoryRanOut.
    """
    try:
        return work()
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler the traceback no longer holds the tensors of what failed.
    return memory_ran_out(device, doing)


def memory_ran_out(device: torch.device, doing: str) -> RanOut:
    """Report that memory ran out, and free what can be freed; see `attempt`, for what catches more than that itself."""
    use = memory_use()
    USAGE.out_of_memory += 1
    emit(MemoryRanOut(doing, use))
    empty_cache(device)
    return RanOut(memory_text(use))


def halving(size: int, work: Callable[[int], T], device: torch.device, doing: str) -> tuple[T, int]:
    """Do something from its beginning, again with half the batch size wherever memory runs out.

    Args:
        size: Rows of a batch.
        work: What to do with batches of so many rows; it must not keep anything of an attempt that failed.
        device: See `attempt`.
        doing: See `attempt`.

    Returns:
        The result, and the batch size that it was achieved with.

    Raises:
        OutOfMemoryError: It does not work with single rows either.
    """
    while True:
        with step(doing):
            result = attempt(partial(work, size), device, doing)
        if not isinstance(result, RanOut):
            # Caches and activations, which would stand beside those of what comes next.
            give_back_freed()
            return result, size
        if size == 1:
            raise nothing_smaller(doing, result)
        emit(Warned(f"Memory ran out while {doing} with batches of {size}; trying again with {size // 2}."))
        size //= 2


def nothing_smaller(doing: str, ran_out: RanOut) -> OutOfMemoryError:
    """What is raised where nothing is left to be made smaller; `doing` as in `attempt`."""
    return OutOfMemoryError(
        f"Memory ran out while {doing}, even with one prompt at a time; use --quantization bnb_4bit, shorter prompts, "
        f"or a larger device ({ran_out.used})."
    )


def amounts_text(amounts: Mapping[str, int]) -> str:
    """The amounts of one place, e.g. ``0.8 GB used, at most 0.9 GB, 3.2 GB free``."""
    parts = [f"{_gigabytes(amounts['used_bytes'])} used"]
    if "reserved_bytes" in amounts:
        parts.append(f"{_gigabytes(amounts['reserved_bytes'])} reserved")
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
