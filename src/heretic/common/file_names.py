"""Names of files as people write them, and from data (model ids, manifests), which never lead out of their folder."""

import itertools
import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath, PureWindowsPath

from heretic.common.errors import UserError

LONGEST = 120
"""Bytes of a name; file systems take 255, and suffixes are added."""

# Separators, what Windows forbids, control characters, and marks that reverse the direction of text.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]+')
_RESERVED = re.compile(
    r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3]|conin\$|conout\$)\s*(\..*)?", re.I
)


def configuration_folder(environment: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where Heretic keeps what belongs to the user.

    ``heretic`` in ``$XDG_CONFIG_HOME`` where that is an absolute path, else in ``%APPDATA%`` on Windows and
    ``~/.config`` elsewhere.

    Raises:
        RuntimeError: There is no home folder.
    """
    for name in ("XDG_CONFIG_HOME", *(["APPDATA"] if platform == "win32" else [])):
        folder = environment.get(name, "")
        if Path(folder).is_absolute():
            return Path(folder) / "heretic"
    return Path.home() / ".config" / "heretic"


def expanded(name: str | os.PathLike[str]) -> Path:
    """The path that a person means, ``~`` replaced; the home folder of an unknown user stays as it is written.

    Ask `os.path` whether it exists: pathlib raises where the name is too long for any file.
    """
    return Path(os.path.expanduser(name))


def existing_folder(name: str) -> Path:
    """The absolute path of a folder that a person names and that can be read.

    Raises:
        UserError: There is none.
    """
    try:
        folder = Path(name).expanduser().resolve()
        is_folder, exists = folder.is_dir(), folder.exists()
    except (OSError, RuntimeError, ValueError) as error:  # no access, a loop of links, a NUL character
        raise UserError(f"The path {name!r} cannot be used ({error}); name a model folder.") from error
    if not exists:
        raise UserError(f"There is no folder {name}; check the path.")
    if not is_folder:
        raise UserError(f"{name} is a file; name the folder that it lies in.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"The folder {name} cannot be read; check its permissions.")
    return folder


def public_name(path: str) -> str:
    """What a path is called elsewhere: a/b of the hub's cache (models--a--b/snapshots/...), else its last part."""
    parts = PureWindowsPath(path).parts if "\\" in path else PurePosixPath(path).parts
    if len(parts) > 2 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return parts[-3].removeprefix("models--").replace("--", "/")
    return parts[-1] if parts else path


def safe_name(text: str, fallback: str = "model") -> str:
    """Any text as the name of one file or folder, on every common system.

    Args:
        text: Where the name comes from.
        fallback: The name where nothing of the text is left.
    """
    name = _FORBIDDEN.sub("-", unicodedata.normalize("NFC", text))
    name = name.encode()[:LONGEST].decode(errors="ignore")
    # A leading dot hides a file, a leading minus looks like an option; Windows drops dots and spaces at the end.
    name = name.lstrip(".- ").rstrip(". -")
    if not name:
        return fallback
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def time_stamped(name: str) -> str:
    """A name that is not taken: with the time (UTC) to the second behind it."""
    return f"{name}-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"


def free_name(name: str) -> str:
    """The name, with a number where a folder or file of that name is in use here."""
    candidates = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(candidate for candidate in candidates if not os.path.lexists(candidate))


def leads_outside(name: str) -> bool:
    """Whether a relative name from data is absolute, climbs out of its folder, or is no name at all; on any system."""
    if not name or "\x00" in name:
        return True
    windows = PureWindowsPath(name)
    rooted = bool(windows.drive or windows.root) or PurePosixPath(name).is_absolute()
    return rooted or ".." in windows.parts or ".." in PurePosixPath(name).parts


def inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder, by a name from data; links are followed to see where they lead.

    Raises:
        UserError: The name or a link leads out of the folder.
    """
    if not leads_outside(name) and _stays_inside(folder, folder / name):
        return folder / name
    raise UserError(f"The name {name[:LONGEST]!r} leads out of the folder {folder}; remove it, or get the files again.")


def _stays_inside(folder: Path, path: Path) -> bool:
    try:
        real = path.resolve()
        # What is resolved is no link, except, from Python 3.13 on, where links lead to each other for ever.
        return real.is_relative_to(folder.resolve()) and not real.is_symlink()
    except (OSError, RuntimeError, ValueError):  # a loop of links (before 3.13), a name that is too long
        return False
