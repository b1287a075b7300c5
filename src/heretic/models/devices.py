"""What differs between CUDA, XPU, MPS, NPU and CPU: which one to use, its free memory, waiting for it, running out of it."""

import gc
import os
from typing import Any

import torch

ACCELERATORS = ("cuda", "xpu", "npu", "mps")
"""Device types in the order in which `auto` looks for them."""

_OUT_OF_MEMORY_PHRASES = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def _backend(device_type: str) -> Any | None:
    """The torch module of an accelerator (torch.cuda, ...), or None where this torch has none."""
    return getattr(torch, device_type, None)


def is_available(device_type: str) -> bool:
    """Whether this machine has a working device of that type."""
    if device_type == "cpu":
        return True
    if device_type == "mps":
        return torch.backends.mps.is_available()
    backend = _backend(device_type)
    return backend is not None and bool(backend.is_available())


def pick_device(name: str) -> torch.device:
    """The device that a setting names; ``auto`` takes the first accelerator that is there, else the CPU."""
    if name != "auto":
        return torch.device(name)
    return torch.device(next((kind for kind in ACCELERATORS if is_available(kind)), "cpu"))


def empty_cache(device: torch.device) -> None:
    """Collect garbage and give the device's cached memory back."""
    gc.collect()
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


def free_host_memory() -> int:
    """Bytes of host memory that can be allocated without swapping."""
    import psutil

    available = int(psutil.virtual_memory().available)
    limit = _control_group_limit()
    return available if limit is None else min(available, limit)


def _control_group_limit() -> int | None:
    """What a container's memory limit leaves, or None without one."""
    root = "/sys/fs/cgroup"
    if not os.path.exists(f"{root}/memory.max"):
        return None
    with open(f"{root}/memory.max", encoding="ascii") as file:
        limit = file.read().strip()
    if limit == "max":
        return None
    with open(f"{root}/memory.current", encoding="ascii") as file:
        return max(int(limit) - int(file.read()), 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _OUT_OF_MEMORY_PHRASES)
