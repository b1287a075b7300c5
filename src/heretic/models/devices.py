"""What differs between CUDA, XPU, MPS, NPU and CPU: choosing one, free memory, waiting for it, running out of it."""

import errno
import gc
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from heretic.common.errors import ModelError, OutOfMemoryError
from heretic.models.host_memory import free_host_memory, give_back_freed

ACCELERATORS = ("cuda", "xpu", "npu", "mps")
"""Device types in the order in which `auto` looks for them."""

_STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
"""Of accelerate, by which it spreads layers over devices."""
_OUT_OF_MEMORY_PHRASES = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "std::bad_alloc",
    # What oneDNN, which multiplies on CPUs, says under a limit of the operating system.
    "could not create a primitive",
    "could not create a memory object",
    "could not initialize a memory",
)


def _backend(device_type: str) -> Any | None:
    """The torch module of an accelerator (torch.cuda, ...), or None where this torch has none."""
    return getattr(torch, device_type, None)


def compute_with(threads: int) -> None:
    """So many threads for the CPU's work; 0 leaves their number as it is."""
    if threads:
        torch.set_num_threads(threads)


def is_available(device_type: str) -> bool:
    """Whether this machine has a working device of that type."""
    if device_type == "cpu":
        return True
    if device_type == "mps":
        return torch.backends.mps.is_available()
    backend = _backend(device_type)
    return backend is not None and bool(backend.is_available())


def device_count(device_type: str) -> int:
    """How many devices of a type this machine has."""
    if not is_available(device_type):
        return 0
    # MPS and the CPU are always one.
    count = getattr(_backend(device_type), "device_count", None) if device_type not in ("cpu", "mps") else None
    return 1 if count is None else int(count())


def pick_device(name: str, option: str = "--device") -> torch.device:
    """The device that a setting names; ``auto`` takes the first accelerator that is there, else the CPU.

    Args:
        name: The setting's value.
        option: What the message calls the setting.

    Raises:
        ModelError: This machine has no such device.
    """
    if name == "auto":
        return torch.device(next((kind for kind in ACCELERATORS if is_available(kind)), "cpu"))
    device = torch.device(name)
    if (device.index or 0) >= device_count(device.type):
        present = [kind for kind in (*ACCELERATORS, "cpu") if is_available(kind)]
        raise ModelError(f"PyTorch finds no device {name} here; use {option} auto or one of {', '.join(present)}.")
    return device


def check_placement(device_map: str | Mapping[str, str | int], max_memory: Mapping[str, str] | None) -> None:
    """Refuse a placement of the weights on devices that this machine has not.

    accelerate numbers the accelerators, and otherwise names devices as PyTorch does, or ``disk``.

    Args:
        device_map: A strategy of accelerate, one device, or a table of modules and devices.
        max_memory: Memory by device.

    Raises:
        ModelError: Names the device, the option, and the devices that are there.
    """
    named = {"--max-memory": list(max_memory or ())}
    if not isinstance(device_map, str):
        named["--device-map"] = [str(device) for device in device_map.values()]
    elif device_map not in _STRATEGIES:
        named["--device-map"] = [device_map]
    for option, names in named.items():
        for name in names:
            if not _is_place(name):
                present = [kind for kind in (*ACCELERATORS, "cpu") if is_available(kind)]
                raise ModelError(
                    f"{option} names the device {name}, which PyTorch does not find here; it finds "
                    f"{', '.join(present)}: name these (accelerators by their number), or leave {option} out."
                )


def _is_place(name: str) -> bool:
    """Whether weights can be put there."""
    if name.isdecimal():
        return int(name) < max(map(device_count, ACCELERATORS))
    try:
        device = torch.device(name)
    except RuntimeError:
        return name == "disk"
    return device.type == "meta" or (device.index or 0) < device_count(device.type)


def empty_cache(device: torch.device) -> None:
    """Collect garbage and give the device's cached memory back."""
    gc.collect()
    give_back_freed()
    backend = _backend(device.type)
    if device.type != "cpu" and backend is not None:
        backend.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait until everything queued on the device is done."""
    backend = _backend(device.type)
    if device.type != "cpu" and backend is not None:
        backend.synchronize()


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device."""
    if device.type in ("cuda", "xpu", "npu"):
        backend: Any = _backend(device.type)
        free, _total = backend.mem_get_info(device)
        reserved = backend.memory_reserved(device) - backend.memory_allocated(device)
        return int(free) + int(reserved)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    return free_host_memory()


@contextmanager
def parked(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Have a model's weights in host memory for the with-block, so that others can use its devices, one or several.

    Does nothing where they are there, and with quantised weights: these stay.
    """
    if device.type == "cpu" or getattr(model, "is_quantized", False):
        yield
        return
    # One by one, since accelerate refuses to move a model that it has spread; what it left on the disk stays there.
    places = [(held, held.device) for held in (*model.parameters(), *model.buffers()) if held.device.type != "meta"]
    for held, _place in places:
        held.data = held.data.to("cpu")
    for place in {place for _held, place in places}:
        empty_cache(place)
    try:
        yield
    finally:
        for held, place in places:
            held.data = held.data.to(place)


def product_time(dtype: torch.dtype) -> float:
    """How many times as long as in float32 a CPU's matrix product takes; processors emulate dtypes that they lack."""
    times: dict[torch.dtype, float] = {}
    for _turn in range(3):
        for kind in (torch.float32, dtype):
            inputs, weight = torch.ones(32, 1024, dtype=kind), torch.ones(1024, 1024, dtype=kind)
            started = time.perf_counter()
            torch.nn.functional.linear(inputs, weight)
            times[kind] = min(times.get(kind, math.inf), time.perf_counter() - started)
    return times[dtype] / times[torch.float32]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError, OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        # Mapping a weight file into memory.
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _OUT_OF_MEMORY_PHRASES)
