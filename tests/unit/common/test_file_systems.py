"""File systems that cannot lock, flush folders or change permissions, and real faults told from these."""

import errno
import os
import stat
from pathlib import Path

import pytest

from heretic.common.file_systems import flush, missing_locks, set_mode

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other locks and no such folders")


def failing(number: int, only_folders: bool = False) -> object:
    def fail(descriptor: int, *_arguments: object) -> None:
        if not only_folders or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_missing_locks_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    import fcntl

    assert missing_locks(tmp_path) is None
    monkeypatch.setattr(fcntl, "flock", failing(number))
    assert missing_locks(tmp_path) == os.strerror(number)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["EINVAL", "EOPNOTSUPP", "EBADF", "ENOSYS", "EACCES", "EPERM", "ENOLCK"])
def test_a_folder_that_cannot_be_flushed_is_no_fault_and_a_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(os, "fsync", failing(getattr(errno, name)))
    flush(tmp_path)
    with pytest.raises(OSError, match=os.strerror(getattr(errno, name))):
        flush(file)


@pytest.mark.parametrize("name", ["EIO", "ENOSPC"])
def test_a_disk_that_fails_is_a_fault_of_folders_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "fsync", failing(getattr(errno, name)))
    with pytest.raises(OSError, match=os.strerror(getattr(errno, name))):
        flush(tmp_path)


def test_permissions_that_a_file_system_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    set_mode(file, 0o600)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    numbers = [errno.EPERM, errno.EOPNOTSUPP, errno.EIO]

    def refuse(_path: Path, _mode: int, **_options: object) -> None:
        number = numbers.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "chmod", refuse)
    set_mode(file, 0o644)
    set_mode(file, 0o644)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        set_mode(file, 0o644)
