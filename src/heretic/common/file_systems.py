"""What not every file system can do: lock files, flush folders to the disk, change permissions.

Network file systems, FUSE and those of other systems answer in their own ways that they cannot; a program that takes
such an answer for a fault loses what it was about to keep.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from uuid import uuid4

_FAULTS = {errno.EIO, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Of the disk, on whatever file system; with any other number a file system says that it cannot do it."""


def missing_locks(folder: Path) -> str | None:
    """Why files in a folder cannot be locked, in the system's words; None where they can.

    Tried out on a file that nobody else has. A lock library may take "not implemented" for a reason to look at the lock
    file's existence alone, and then take its own file for somebody else's.

    Raises:
        OSError: No file can be made there.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    with TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.strerror or str(error)
    return None


@contextmanager
def exclusive(path: Path, taken: Exception) -> Iterator[None]:
    """Have a lock file to oneself in the with-block; it is there before and gone afterwards.

    Raises:
        Exception: `taken`, where another process has it.
    """
    # Commands that lock nothing answer at once.
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise taken from None
    try:
        yield
    finally:
        # Windows cannot remove an open file, and after the release it may be another process's.
        if os.name != "nt":
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of `path` when the with-block ends without an exception.

    After a crash, also one of the system, `path` is the old file or the new one.
    """
    unfinished = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        yield unfinished
        # A power cut after the renaming must leave one of the two files, not an empty one.
        flush(unfinished)
        unfinished.replace(path)
        flush(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Write a file or a folder's names to the disk; a folder only where its file system can do that.

    Raises:
        OSError: It could not be written; of folders, because the disk is full or at fault.
    """
    windows, is_folder = os.name == "nt", path.is_dir()
    if windows and is_folder:
        return  # Windows cannot open folders.
    try:
        descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not is_folder or error.errno in _FAULTS:
            raise


def set_mode(path: Path, mode: int) -> None:
    """Give a file its permissions, where its file system has any; elsewhere it has those that all files there have.

    Raises:
        OSError: The disk is full or at fault.
    """
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno in _FAULTS:
            raise
