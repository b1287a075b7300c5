"""What limits leave of the host's memory."""

import resource
import subprocess
import sys

import torch

from heretic.models import host_memory
from heretic.models.devices import free_memory
from heretic.models.host_memory import address_space_room, control_group_room, control_groups, free_host_memory


def write_control_group(folder, limit, used, cached):
    (folder / "memory.max").write_text(f"{limit}\n", encoding="ascii")
    (folder / "memory.current").write_text(f"{used}\n", encoding="ascii")
    (folder / "memory.stat").write_text(f"anon 5\nactive_file {cached}\ninactive_file 10\n", encoding="ascii")


def test_a_container_limits_the_free_memory(tmp_path, monkeypatch):
    write_control_group(tmp_path, 1000, 700, 200)
    assert control_group_room(tmp_path) == 1000 - 700 + 200 + 10
    write_control_group(tmp_path, "max", 700, 200)
    assert control_group_room(tmp_path) is None
    assert control_group_room(tmp_path / "absent") is None
    monkeypatch.setattr(host_memory, "control_group_room", lambda _folder: 12345)
    assert free_host_memory() == 12345
    assert free_memory(torch.device("cpu")) == 12345


def test_every_group_around_the_process_may_have_a_limit(tmp_path):
    own = tmp_path / "own"
    own.write_text("1:name=x:/elsewhere\n0::/user.slice/run.scope\n")
    assert list(control_groups(own, tmp_path)) == [tmp_path / "user.slice/run.scope", tmp_path / "user.slice", tmp_path]
    own.write_text("0::/\n")
    assert list(control_groups(own, tmp_path)) == [tmp_path]
    assert list(control_groups(tmp_path / "absent", tmp_path)) == [tmp_path]


def test_freed_memory_goes_back_to_the_system():
    # Blocks below the C library's threshold for mapping, with one that stays above them.
    script = (
        "import ctypes, psutil; from heretic.models.host_memory import give_back_freed\n"
        "allocate, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free\n"
        "allocate.restype = ctypes.c_void_p; free.argtypes = [ctypes.c_void_p]\n"
        "blocks = [allocate(100_000) for _ in range(2000)]; last = allocate(100_000)\n"
        "[ctypes.memset(block, 1, 100_000) for block in blocks]; [free(block) for block in blocks]\n"
        "before = psutil.Process().memory_info().rss; give_back_freed()\n"
        "print(before - psutil.Process().memory_info().rss)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(answer.stdout) > 150_000_000


def test_a_limit_of_the_shell_counts():
    room = address_space_room()
    assert (room is None) == (resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY)
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9));"
        "from heretic.models.host_memory import free_host_memory; print(free_host_memory())"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0 < int(answer.stdout) < 10**9
