"""Checksums of a folder's files: written into a manifest, and compared with it before anything in the folder is used.

A manifest proves that files are as they were when it was written. It is no signature: whoever can change the files can
write another manifest.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Event as Flag
from typing import Any

from heretic.common.errors import UserError
from heretic.common.file_systems import replacing

MANIFEST_NAME = "heretic_metadata.json"
"""A folder's manifest."""
CARD_NAME = "README.md"
"""A model's card, which people edit after saving."""
FORMAT_VERSION = 1
CHECKSUMS_ONLY = "checksums"
"""The ``format`` of a manifest that says nothing about an edit."""

SKIPPED_FOLDERS = frozenset({".git", ".cache"})
"""At the top of a folder: what git and the hub's client keep beside the model."""
FOREIGN_FILES = frozenset({".gitattributes", ".DS_Store", "Thumbs.db", "desktop.ini"})
"""Files that the hub or the system adds, and nothing reads; they only count where the manifest lists them."""

_HARMLESS = ("._*", ".nfs*", ".ipynb_checkpoints", "*.gguf", "*.md")
"""What people and systems leave beside a model and no loading of the folder opens: named, but no reason to refuse."""

_CHUNK_BYTES = 1024**2
_WORKERS = 4
"""Hashing lets go of Python's lock, and weight files come in several pieces."""
LARGEST_FOREIGN = 64 * 1024**2
"""Bytes of a file of somebody else's that is read as a whole; indices of the largest models take a tenth."""

Advance = Callable[[int], None]
"""Is told how many more bytes have been read; from several threads."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Checksum (SHA-256, hex) and size in bytes of one file."""

    sha256: str
    size: int


class DifferenceKind(str, Enum):
    """How a folder deviates from its manifest."""

    CHANGED = "changed"
    MISSING = "missing"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Difference:
    """One file that is not as the manifest says; the reason where there is more to say than the kind."""

    path: str
    kind: DifferenceKind
    reason: str = field(default="", compare=False)

    @property
    def is_harmless(self) -> bool:
        """Whether it concerns nothing that is loaded: the model's card, or a file that was added and nobody opens."""
        if self.path == CARD_NAME:
            return True
        parts = self.path.split("/")
        return self.kind is DifferenceKind.EXTRA and any(
            fnmatchcase(part, name) for part in parts for name in _HARMLESS
        )


def read_foreign(path: Path, limit: int = LARGEST_FOREIGN) -> bytes:
    """What a file of somebody else's holds: only a regular one is opened, and no more is read than so many bytes.

    Raises:
        OSError: It cannot be read.
        ValueError: It is a pipe, a device or a folder, or larger.
    """
    # Before it is opened: a pipe would wait for a writer for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no ordinary file")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit // 1024**2} MiB")
    return content


def sha256_of_file(path: Path, advance: Advance = lambda _count: None, stop: Flag | None = None) -> str:
    """SHA-256 (hex) of a file of any size, read in pieces; of its beginning where it is told to stop."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while (chunk := file.read(_CHUNK_BYTES)) and not (stop is not None and stop.is_set()):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def files_of(folder: Path) -> dict[str, Path]:
    """Every file but the manifest: path relative to the folder, with forward slashes -> path.

    Links to folders count as files and are not followed, so that nothing outside of the folder is walked through.

    Raises:
        OSError: A folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    files: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder, onerror=fail):
        here = Path(parent)
        linked = [name for name in folders if (here / name).is_symlink()]
        skipped = SKIPPED_FOLDERS if here == folder else frozenset()
        folders[:] = sorted(name for name in folders if name not in linked and name not in skipped)
        for name in (*names, *linked):
            files[(here / name).relative_to(folder).as_posix()] = here / name
    files.pop(MANIFEST_NAME, None)
    return dict(sorted(files.items()))


def checksums(files: Mapping[str, Path], advance: Advance = lambda _count: None) -> dict[str, FileEntry]:
    """Checksums of files, several at a time.

    Raises:
        UserError: One is no regular file or cannot be read.
    """
    stop = Flag()

    def entry(item: tuple[str, Path]) -> tuple[str, FileEntry]:
        name, path = item
        try:
            status = path.stat()
            # Opening a pipe would wait for a writer for ever.
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{path} is no ordinary file, so it has no checksum; move it away.")
            return name, FileEntry(sha256_of_file(path, advance, stop), status.st_size)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); check the file and its permissions.") from error

    with ThreadPoolExecutor(max_workers=min(_WORKERS, os.cpu_count() or 1)) as pool:
        try:
            return dict(pool.map(entry, files.items()))
        finally:
            # Ctrl+C or an unreadable file: nobody waits for the rest.
            stop.set()
            pool.shutdown(cancel_futures=True)


def has_manifest(folder: Path) -> bool:
    """Whether a folder says what its files are."""
    return os.path.lexists(folder / MANIFEST_NAME)


def read_manifest_file(path: Path) -> dict[str, Any]:
    """A manifest's JSON, of which only version and files are checked.

    Raises:
        UserError: It cannot be read or understood.
    """
    try:
        data = json.loads(read_foreign(path).decode("utf-8"))
        if data["manifest_version"] > FORMAT_VERSION:
            raise ValueError(f"manifest version {data['manifest_version']} is newer than this Heretic knows")
        for name, entry in data["files"].items():
            if not (isinstance(entry["sha256"], str) and isinstance(entry["size"], int)):
                raise ValueError(f"the entry of {name!r} is no checksum")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the file and its permissions.") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged or too new ({error}); get or save the model again.") from error
    manifest: dict[str, Any] = data
    return manifest


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that Heretic saved.

    Raises:
        UserError: There is none, or it says nothing about an edit.
    """
    if not has_manifest(folder):
        raise UserError(f"{folder} has no {MANIFEST_NAME}; name a folder that Heretic saved.")
    manifest = read_manifest_file(folder / MANIFEST_NAME)
    if manifest.get("format") == CHECKSUMS_ONLY:
        raise UserError(f"The {MANIFEST_NAME} of {folder} holds checksums only; name a folder that Heretic saved.")
    return manifest


def write_manifest_file(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest as a whole: after a crash it is the old one or the new one.

    Raises:
        UserError: It cannot be written; it is as it was before.
    """
    text = json.dumps(manifest, indent=2, ensure_ascii=True) + "\n"
    try:
        with replacing(path) as unfinished:
            unfinished.write_text(text, encoding="ascii")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); check the folder and its permissions."
        ) from error


def entries_of(manifest: Mapping[str, Any]) -> dict[str, FileEntry]:
    """The checksums in what `read_manifest_file` returned."""
    return {name: FileEntry(entry["sha256"], entry["size"]) for name, entry in manifest["files"].items()}


def compare(
    expected: Mapping[str, FileEntry],
    present: Mapping[str, Path],
    advance: Advance = lambda _count: None,
) -> list[Difference]:
    """Compare files with their checksums.

    Names in a manifest are only compared with those of files that are there, so a forged one opens nothing elsewhere.
    Files of another size are not read.

    Returns:
        Files that changed, are missing or were added, sorted by path; empty where all is well.

    Raises:
        UserError: A file cannot be read.
    """
    differences = [Difference(name, DifferenceKind.MISSING) for name in expected.keys() - present.keys()]
    differences += [
        Difference(name, DifferenceKind.EXTRA)
        for name in present.keys() - expected.keys()
        if name.rpartition("/")[2] not in FOREIGN_FILES
    ]
    same_size = {}
    for name in expected.keys() & present.keys():
        reason = _other_kind_or_size(present[name], expected[name])
        if reason:
            differences.append(Difference(name, DifferenceKind.CHANGED, reason))
        else:
            same_size[name] = present[name]
    for name, entry in checksums(dict(sorted(same_size.items())), advance).items():
        if entry != expected[name]:
            differences.append(Difference(name, DifferenceKind.CHANGED, "another content of the same size"))
    return sorted(differences, key=lambda difference: difference.path)


def _other_kind_or_size(path: Path, entry: FileEntry) -> str:
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "no ordinary file"
    return f"{status.st_size} bytes instead of {entry.size}" if status.st_size != entry.size else ""


def check_folder(folder: Path, advance: Advance = lambda _count: None) -> list[Difference]:
    """Compare every file of a folder with its manifest, harmless differences included; see `compare`.

    Raises:
        UserError: The manifest or a file cannot be read.
    """
    expected = entries_of(read_manifest_file(folder / MANIFEST_NAME))
    try:
        present = files_of(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error.strerror}); check its permissions.") from error
    return compare(expected, present, advance)


def check_sizes(folder: Path, expected: Mapping[str, FileEntry]) -> list[Difference]:
    """Files of a manifest that are missing or have another size, harmless ones included; none is read.

    Raises:
        OSError: The folder cannot be listed.
    """
    present = files_of(folder)
    differences = []
    for name, entry in sorted(expected.items()):
        reason = _other_kind_or_size(present[name], entry) if name in present else ""
        if name not in present or reason:
            kind = DifferenceKind.CHANGED if reason else DifferenceKind.MISSING
            differences.append(Difference(name, kind, reason))
    return differences


def harmful(differences: Iterable[Difference]) -> list[Difference]:
    """Those for which a folder is not used."""
    return [difference for difference in differences if not difference.is_harmless]


def named(differences: Iterable[Difference]) -> Iterator[str]:
    """Differences in words, to stand in a sentence."""
    for difference in differences:
        reason = f" ({difference.reason})" if difference.reason else ""
        yield f"{difference.path!r} is {_WORDS[difference.kind]}{reason}"


_WORDS = {
    DifferenceKind.CHANGED: "changed",
    DifferenceKind.MISSING: "missing",
    DifferenceKind.EXTRA: "not listed in it",
}


def has_only_checksums(manifest: Path) -> bool:
    """Whether a manifest was written for a model that Heretic did not make; False where it cannot be understood."""
    try:
        return read_manifest_file(manifest).get("format") == CHECKSUMS_ONLY
    except UserError:
        return False
