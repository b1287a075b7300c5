"""Folders that appear under their final name complete or not at all.

Everything is written to a hidden sibling of the target, flushed to the disk, and renamed. The sibling's name says whose
it is, so that the next save to the same target removes what a crash left behind.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from rich.filesize import decimal
from safetensors import SafetensorError

from heretic.common.errors import ExportError, HereticError, UserError
from heretic.common.file_systems import exclusive, flush, missing_locks, set_mode
from heretic.common.integrity import MANIFEST_NAME, has_only_checksums
from heretic.common.unfinished import left_beside, lock_of, new_beside
from heretic.directions.control_vectors import SUFFIX, read_control_vector
from heretic.directions.types import DirectionSet
from heretic.models.devices import is_out_of_memory
from heretic.models.memory import memory_text, memory_use
from heretic.observability.events import Warned, emit

DISK_MARGIN_FACTOR = 1.1
DISK_MARGIN_BYTES = 64 * 1024**2
"""Free space is asked for tokenizer, card and file system overhead too."""

Replaces = Callable[[Path], bool]
"""Whether a folder that is not empty may be replaced."""

_OS_ERROR_NUMBER = re.compile(r"os error (\d+)")
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}


def os_error_number(error: Exception) -> int | None:
    """The operating system's number of an error, which safetensors and tokenizers report as text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _OS_ERROR_NUMBER.search(str(error))
    return int(match.group(1)) if match else None


def save_error(error: OSError | SafetensorError, target: Path) -> HereticError:
    """What went wrong while writing, as an error of Heretic's."""
    number = os_error_number(error)
    if number in _FULL:
        return ExportError(
            f"The disk became full while saving to {target}, and what was written has been removed; free some space or "
            "choose another path."
        )
    if number == errno.EFBIG:
        return ExportError(
            f"The file system of {target} does not take files this large; choose a smaller shard size or another path."
        )
    if number in _FORBIDDEN:
        return UserError(f"Cannot write to {target} ({os.strerror(number)}); choose another path.")
    if number in {errno.ENOTEMPTY, errno.EEXIST}:
        return UserError(f"{target} came into being in the meantime; choose another path.")
    reason = " ".join(str(error).split())
    return ExportError(
        f"Could not save to {target}: {reason}. Nothing was left behind; try again or choose another path."
    )


def _existing_ancestor(path: Path) -> Path:
    """The path itself or its nearest ancestor that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def is_saved_model(folder: Path) -> bool:
    """Whether Heretic saved a folder; checksums alone may be those of somebody else's model."""
    manifest = folder / MANIFEST_NAME
    return manifest.exists() and not has_only_checksums(manifest)


def check_target(folder: Path, replaces: Replaces | None = None) -> Path:
    """Check that a folder can be created, without touching anything; ask before a long search, not after it.

    Args:
        folder: Where to save.
        replaces: Which folders that are not empty may be replaced; None accepts none of them.

    Returns:
        The absolute path, symbolic links resolved.

    Raises:
        UserError: It exists and is not empty, is a file, or lies where nothing can be written.
    """
    try:
        target = folder.expanduser().resolve()
        if target.is_dir():
            is_empty = not any(target.iterdir())
            if not is_empty and replaces is None:
                raise UserError(f"{folder} exists and is not empty; choose another path.")
            # Only what Heretic saved is ever replaced.
            if not is_empty and replaces is not None and not replaces(target):
                raise UserError(f"{folder} was not written by Heretic and is not replaced; choose another path.")
        elif target.exists():
            raise UserError(f"{folder} is a file; choose the path of a folder.")
        ancestor = _existing_ancestor(target.parent)
        if not ancestor.is_dir():
            raise UserError(f"{folder} cannot be created because {ancestor} is a file; choose another path.")
    except (OSError, RuntimeError, ValueError) as error:  # no access, a loop of links, a NUL character
        raise UserError(f"The path {str(folder)!r} cannot be used ({error}); choose another path.") from error
    if os.path.ismount(target):
        raise UserError(f"{folder} is a mount point, which cannot be replaced; choose a folder inside it.")
    if not _is_writable(ancestor):
        raise UserError(f"Cannot write to {folder} because {ancestor} is not writable; choose another path.")
    return target


def _is_writable(folder: Path) -> bool:
    """Whether files can be created in a folder; tried out, since permissions do not tell it to a superuser."""
    try:
        # Has no name where the system can do that, and loses it at once elsewhere.
        with TemporaryFile(dir=folder):
            return True
    except OSError as error:
        # A full disk can be written to once there is room; how much is needed is asked later.
        return error.errno in _FULL


def check_file_target(path: Path) -> Path:
    """Check that a file can be written, without touching anything.

    Returns:
        The absolute path, symbolic links resolved.

    Raises:
        UserError: It is a folder, or lies where nothing can be written.
    """
    try:
        target = path.expanduser().resolve()
        is_folder, exists, has_parent = target.is_dir(), target.exists(), target.parent.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # no access, no home folder, a NUL character
        raise UserError(f"The path {str(path)!r} cannot be used ({error}); choose another path.") from error
    if is_folder:
        raise UserError(f"{path} is a folder; choose the path of a file.")
    if not has_parent:
        raise UserError(f"{path} cannot be written because there is no folder {target.parent}; create it first.")
    if (exists and not os.access(target, os.W_OK)) or not _is_writable(target.parent):
        raise UserError(f"{path} is not writable; choose another path.")
    return target


def check_directions_file(path: Path) -> Path:
    """Refuse a direction file that cannot be written; one of an earlier run is replaced, anything else is not.

    Returns:
        The absolute path, symbolic links resolved.

    Raises:
        UserError: It cannot be written, holds something else, or is named like a control vector.
    """
    if path.suffix.lower() == SUFFIX:
        raise UserError(
            f"{path} would not be GGUF; name it .safetensors, and write a control vector of it with heretic "
            "directions FILE --export."
        )
    return _check_kind(path, DirectionSet.load, "direction file")


def check_control_vector(path: Path) -> Path:
    """The same for a control vector.

    Raises:
        UserError: It cannot be written, or holds something else.
    """
    return _check_kind(path, read_control_vector, "control vector")


def _check_kind(path: Path, read: Callable[[Path], object], what: str) -> Path:
    target = check_file_target(path)
    if target.exists():
        try:
            read(target)
        except UserError as error:
            raise UserError(f"{path} exists and is no {what}; choose another path.") from error
    return target


def check_free_space(target: Path, needed: int) -> None:
    """Check the disk before writing.

    Args:
        target: Absolute path of the folder to write.
        needed: Bytes of the largest part; a margin is added.

    Raises:
        UserError: Too little is free; the message has both numbers.
    """
    room = int(needed * DISK_MARGIN_FACTOR) + DISK_MARGIN_BYTES
    place = _existing_ancestor(target)
    free = shutil.disk_usage(place).free
    if free < room:
        raise UserError(
            f"Saving to {target} needs about {decimal(room)}, but only {decimal(free)} is free on that disk; "
            "free some space or choose another path."
        )


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        # The save itself succeeded or failed for another reason, which must not be hidden by this one.
        emit(Warned(f"{folder} could not be removed ({error.strerror}); it can be deleted by hand."))


def _clean_up_crashes(target: Path) -> None:
    """Put back a folder that was being replaced when the process died, and remove half-written ones."""
    for old in left_beside(target, "replaced"):
        if target.exists():
            _remove(old)
        else:
            os.replace(old, target)
    for partial in left_beside(target, "partial"):
        _remove(partial)


def _sync_tree(folder: Path) -> None:
    """Flush all files, then the folders that name them: a power cut after the rename must not leave empty files."""
    for path in sorted(folder.rglob("*"), reverse=True):
        flush(path)
    flush(folder)


def _publish(staging: Path, target: Path, replaces: Replaces | None) -> None:
    """Give the staging folder its final name; whatever fails, the target is as it was."""
    check_target(target, replaces)
    old: Path | None = None
    was_empty = target.exists() and not any(target.iterdir())
    if was_empty:
        target.rmdir()
    elif target.exists():
        old = new_beside(target, "replaced")
        os.replace(target, old)
    try:
        os.replace(staging, target)
    finally:
        # Whatever went wrong, Ctrl+C included: nothing stands at the target unless the new folder does.
        if not target.exists():
            if was_empty:
                target.mkdir()
            elif old is not None:
                os.replace(old, target)
    if old is not None:
        _remove(old)


@contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Create missing parents; take those back where the block fails."""
    missing = [parent for parent in (target.parent, *target.parent.parents) if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for parent in missing:
            # A parent in use stays: it holds the finished model, or something of somebody else's.
            if parent.exists() and not any(parent.iterdir()):
                parent.rmdir()


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Only one process saves to a target at a time, so that leftovers are known to be leftovers."""
    path = lock_of(target)
    reason = missing_locks(target.parent)
    if reason is not None:
        emit(
            Warned(f"{target.parent} is on a file system without locks ({reason}); let no other run save to {target}.")
        )
        yield
        return
    path.touch()  # says why where nothing can be created, which the lock would take for a competitor
    with exclusive(path, UserError(f"Another process is saving to {target} right now; choose another path.")):
        yield


def _grant_usual_permissions(folder: Path) -> None:
    """Give files the mode that the process gives new ones: safetensors makes its own readable by the owner alone."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            set_mode(path, mode)


@contextmanager
def staged_folder(folder: Path, replaces: Replaces | None = None) -> Iterator[tuple[Path, Path]]:
    """A new folder to write into that takes the target's name when the block ends without an exception.

    Args:
        folder: Final path; missing parents are created.
        replaces: See `check_target`; such a folder is removed only after the new one is in place.

    Yields:
        The staging folder, and the absolute final path.

    Raises:
        UserError: See `check_target`; also where the operating system forbids writing.
        ExportError: Writing failed, e.g. the disk is full. In both cases the target is as it was before.
    """
    target = check_target(folder, replaces)
    try:
        with _parents(target), _locked(target):
            _clean_up_crashes(target)
            check_target(target, replaces)
            staging = new_beside(target, "partial")
            staging.mkdir()
            try:
                yield staging, target
                _grant_usual_permissions(staging)
                _sync_tree(staging)
                _publish(staging, target, replaces)
            finally:
                if staging.exists():
                    _remove(staging)
    except (OSError, SafetensorError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise ExportError(
                f"Memory ran out while saving to {target}, and what was written has been removed "
                f"({memory_text(memory_use())}); end other programs that use it, use a smaller --max-shard-size, or "
                "run the same command again, which goes on with the study."
            ) from error
        if not isinstance(error, (OSError, SafetensorError)):
            raise
        raise save_error(error, target) from error
    try:
        flush(target.parent)
    except OSError as error:
        emit(Warned(f"{target} is complete, but its name could not be flushed to the disk ({error.strerror})."))
