"""Wrong: a file system that cannot flush folders has the complete model thrown away. Right: it is saved all the same.

The kind: tests/unit/common/test_file_systems.py.
"""

import errno
import os
import stat
from pathlib import Path

import pytest

from heretic.export.atomic import staged_folder


@pytest.mark.parametrize("name", ["EINVAL", "EOPNOTSUPP", "EBADF", "ENOSYS", "EACCES"])
def test_a_folder_that_cannot_be_flushed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, number = os.fsync, getattr(errno, name)

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with staged_folder(tmp_path / "out") as (staging, _target):
        (staging / "model").write_text("weights", encoding="utf-8")
    assert (tmp_path / "out" / "model").read_text(encoding="utf-8") == "weights"
