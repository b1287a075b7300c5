"""A model with a manifest is compared with it before anything of it is loaded or run."""

import time
from collections.abc import Mapping
from pathlib import Path

from heretic.common.errors import UserError
from heretic.common.integrity import (
    MANIFEST_NAME,
    Advance,
    Difference,
    FileEntry,
    check_folder,
    compare,
    entries_of,
    harmful,
    has_manifest,
    named,
    read_manifest_file,
)
from heretic.models.location import Location
from heretic.models.model_files import find_file, weight_files
from heretic.observability.events import FilesVerified, VerificationStarted, emit
from heretic.observability.steps import step

NAMED = 3
"""Differences that a message names."""
_NOT_LOADED = (".md", ".txt", ".gitattributes", "LICENSE", "LICENCE", "NOTICE")
"""Ends of names of a hub repository's files that nobody loads, and that are edited on the hub's pages.

The vocabularies that end in .txt are among the exceptions of `_is_loaded`."""


class VerificationError(UserError):
    """A model's files are not those of its manifest."""


def verify_model(location: Location, commit: str | None) -> None:
    """Compare a model's files with its manifest, where it has one. Emits VerificationStarted and FilesVerified.

    Of a hub repository only files that loading reads are compared: its card is edited on its page. Of a folder with
    several GGUF files only the one that is named.

    Raises:
        VerificationError: Files differ; names the first.
        UserError: The manifest or a file cannot be read.
    """
    manifest = _manifest(location, commit)
    if manifest is None:
        return
    entries = entries_of(read_manifest_file(manifest))
    wanted = {name: entry for name, entry in entries.items() if _is_wanted(location, name)}
    started = time.perf_counter()
    emit(VerificationStarted(location.name, len(wanted), sum(entry.size for entry in wanted.values())))
    with step("comparing files with the manifest", sum(entry.size for entry in wanted.values()), "bytes") as progress:
        differences = harmful(_differences(location, commit, manifest, wanted, progress.advance))
    if differences:
        raise VerificationError(_sentence(location, differences))
    emit(FilesVerified(len(wanted), time.perf_counter() - started))


def _differences(
    location: Location, commit: str | None, manifest: Path, wanted: Mapping[str, FileEntry], advance: Advance
) -> list[Difference]:
    if location.is_hub:
        # Weights that loading opens count also where the manifest does not list them.
        paths = {name: find_file(location, name, commit) for name in (*wanted, *weight_files(location, commit))}
        return compare(wanted, {name: path for name, path in paths.items() if path is not None}, advance)
    if location.gguf_file is not None:
        return compare(wanted, {location.gguf_file: manifest.parent / location.gguf_file}, advance)
    return check_folder(manifest.parent, advance)


def _manifest(location: Location, commit: str | None) -> Path | None:
    if location.is_hub:
        return find_file(location, MANIFEST_NAME, commit)
    folder = Path(location.source)
    return folder / MANIFEST_NAME if has_manifest(folder) else None


def _is_wanted(location: Location, name: str) -> bool:
    if location.gguf_file is not None:
        return name == location.gguf_file
    return not location.is_hub or not name.endswith(_NOT_LOADED) or name.endswith(("vocab.txt", "merges.txt"))


def _sentence(location: Location, differences: list[Difference]) -> str:
    further = len(differences) - NAMED
    names = ", ".join(list(named(differences[:NAMED]))) + (f" and {further} more" if further > 0 else "")
    advice = (
        "delete it from the hub's cache and load it again"
        if location.is_hub
        else f"run 'heretic verify {location.source}' to see all, and get the model again, or, if the change is meant, "
        f"write its checksums anew with 'heretic checksum {location.source} --replace'"
    )
    return f"{location.name} is not as its {MANIFEST_NAME} says: {names}; {advice} (--verify false loads it as it is)."
