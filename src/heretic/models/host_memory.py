"""Host memory: what the machine has, and what limits leave of it. Asked before torch is imported, too."""

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types

CONTROL_GROUPS = Path("/sys/fs/cgroup")
"""Where version 2 is mounted."""
_OWN_GROUP = Path("/proc/self/cgroup")


def free_host_memory() -> int:
    """Bytes of host memory that can be allocated without swapping."""
    rooms = [control_group_room(folder) for folder in control_groups(_OWN_GROUP, CONTROL_GROUPS)]
    limits = [room for room in (*rooms, address_space_room()) if room is not None]
    return min([int(psutil.virtual_memory().available), *limits])


def control_groups(own: Path, mounted: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, innermost first: each may have a limit.

    Args:
        own: What the system says of this process.
        mounted: Where the outermost group is.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    group = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    # In a container the innermost one may be mounted as the outermost, and its path lead nowhere.
    inner = mounted / group
    while group and inner != mounted:
        yield inner
        inner = inner.parent
    yield mounted


def control_group_room(folder: Path) -> int | None:
    """Bytes that a container's memory limit leaves (cgroup version 2), or None without a limit.

    Cached file pages count as used there, but are given back when memory is needed; after reading a model they are
    most of it.
    """
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:
        # No control groups, or the root group, which has no limit.
        return None
    if limit == "max":
        return None
    cached = int(statistics["active_file"]) + int(statistics["inactive_file"])
    return max(int(limit) - used + cached, 0)


def address_space_room() -> int | None:
    """Bytes of address space that a limit of the shell (`ulimit -v`) leaves, or None without one."""
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    limit, _hard = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else max(limit - int(psutil.Process().memory_info().vms), 0)


def give_back_freed() -> None:
    """Return what was freed to the system, which the C library keeps for what comes next.

    After a backward pass that was as much as the weights (benchmarks/README.md, memory). Libraries other than glibc are
    left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
