"""What folders are called while they are written, beside the name that they get once they are whole."""

import re
from pathlib import Path
from typing import Literal
from uuid import uuid4

from heretic.common.file_systems import exclusive

Kind = Literal["partial", "replaced"]
"""What is being written, and what stood in its place."""
_NAME_BYTES = 200
"""Of the target's name; file systems take 255 of the whole."""
_ANY = re.compile(r"\.(?P<target>.+)\.(?:partial|replaced)-[0-9a-f]{8}")


def new_beside(target: Path, kind: Kind) -> Path:
    """A new hidden sibling's path."""
    return target.with_name(f".{_short(target)}.{kind}-{uuid4().hex[:8]}")


def lock_of(target: Path) -> Path:
    """What a process locks that writes to a target."""
    return _lock(target.parent, _short(target))


def left_beside(target: Path, kind: Kind) -> list[Path]:
    """What earlier saves of this target left; anything that only resembles our names is not touched."""
    pattern = re.compile(re.escape(f".{_short(target)}.{kind}-") + r"[0-9a-f]{8}")
    return [entry for entry in _folders(target.parent) if pattern.fullmatch(entry.name)]


def half_written(folder: Path) -> list[Path]:
    """What saves to any target in a folder left, because their process was killed; not what is being written now."""
    found = [(entry, match["target"]) for entry in _folders(folder) if (match := _ANY.fullmatch(entry.name))]
    return [entry for entry, short in found if not _is_held(_lock(folder, short))]


def _short(target: Path) -> str:
    return target.name.encode()[:_NAME_BYTES].decode(errors="ignore")


def _lock(folder: Path, short: str) -> Path:
    return folder / f".{short}.partial.lock"


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.is_symlink()]


def _is_held(lock: Path) -> bool:
    """Whether a process has a lock; one that nobody has goes."""
    if not lock.exists():
        return False
    try:
        with exclusive(lock, BlockingIOError(str(lock))):
            return False
    except BlockingIOError:
        return True
