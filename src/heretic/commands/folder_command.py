"""``heretic verify`` and ``heretic checksum``: a model folder and the checksums of its files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

import heretic
from heretic.commands.folder_arguments import FolderArguments
from heretic.common.errors import HereticError, UserError
from heretic.common.integrity import (
    CHECKSUMS_ONLY,
    FORMAT_VERSION,
    MANIFEST_NAME,
    Advance,
    Difference,
    DifferenceKind,
    check_folder,
    checksums,
    entries_of,
    files_of,
    has_manifest,
    read_manifest_file,
    write_manifest_file,
)
from heretic.interface.console import LABEL_WIDTH, make_console
from heretic.interface.formatting import clean_line, size

_MODEL_FILES = ("config.json", "adapter_config.json")
_MODEL_ENDINGS = (".safetensors", ".gguf", ".bin")


def run_verify(arguments: FolderArguments, console: Console | None = None) -> int:
    """Compare a folder with its manifest and print what was found; returns the exit code.

    Raises:
        UserError: There is no such folder, or no manifest in it that can be read.
    """
    console = make_console() if console is None else console
    folder = existing_folder(arguments.folder)
    if not has_manifest(folder):
        raise UserError(
            f"{arguments.folder} has no {MANIFEST_NAME} to compare its files with; 'heretic checksum "
            f"{arguments.folder}' writes one for the files as they are now."
        )
    manifest = read_manifest_file(folder / MANIFEST_NAME)
    entries = entries_of(manifest)
    total = sum(entry.size for entry in entries.values())
    _row("Folder", str(folder), console)
    _row("Manifest", _origin(manifest), console)
    _row("Files", f"{len(entries)}, {size(total)}", console)
    with _progress(total, console) as advance:
        differences = check_folder(folder, advance)
    _table(list(entries), differences, console)
    if not differences:
        _line("Every file is as in the manifest.", console)
        return 0
    counts = [
        f"{len(found)} {kind.value}"
        for kind in DifferenceKind
        if (found := [difference for difference in differences if difference.kind is kind])
    ]
    _line(f"The folder is not as its manifest says: {', '.join(counts)}.", console)
    _line("Get or save the model again. If the change is meant, write the checksums anew with", console)
    _line(f"  heretic checksum {arguments.folder} --replace", console)
    return HereticError.exit_code


def run_checksum(arguments: FolderArguments, console: Console | None = None) -> int:
    """Write a folder's manifest; returns the exit code.

    Raises:
        UserError: There is no such folder, no model in it, or a manifest already; or it cannot be read or written.
    """
    console = make_console() if console is None else console
    folder = existing_folder(arguments.folder)
    exists = has_manifest(folder)
    if exists and not arguments.replace:
        raise UserError(
            f"{arguments.folder} has a {MANIFEST_NAME} already; compare the files with it by 'heretic verify "
            f"{arguments.folder}', or add --replace to write their checksums anew."
        )
    # One that cannot be understood is replaced as well: that is what was asked for.
    manifest = _kept(folder / MANIFEST_NAME) if exists else {}
    try:
        files = files_of(folder)
        total = sum(path.stat().st_size for path in files.values())
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be read ({error.strerror}); check the file.") from error
    if not any(name in _MODEL_FILES or name.endswith(_MODEL_ENDINGS) for name in files):
        raise UserError(f"{arguments.folder} holds no model; name a folder with a config.json or weight files.")
    with _progress(total, console) as advance:
        entries = checksums(files, advance)
    written = {
        "manifest_version": FORMAT_VERSION,
        "format": CHECKSUMS_ONLY,
        "versions": {"heretic": heretic.__version__},
        **manifest,
        "checksums_written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "files": {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in entries.items()},
    }
    write_manifest_file(folder / MANIFEST_NAME, written)
    _row("Manifest", str(folder / MANIFEST_NAME), console)
    _row("Files", f"{len(entries)}, {size(total)}", console)
    _line("'heretic verify' and the loading of the model compare the files with it from now on.", console)
    return 0


def existing_folder(name: str) -> Path:
    """The absolute path of a folder that can be read.

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


def _kept(path: Path) -> dict[str, object]:
    """What a manifest says besides checksums; nothing where it cannot be understood."""
    try:
        return {name: value for name, value in read_manifest_file(path).items() if name != "files"}
    except UserError:
        return {}


def _origin(manifest: dict[str, object]) -> str:
    """Who wrote a manifest, and when."""
    versions = manifest.get("versions")
    version = versions.get("heretic") if isinstance(versions, dict) else None
    date = manifest.get("checksums_written") or manifest.get("created")
    what = "checksums" if manifest.get("format") == CHECKSUMS_ONLY else "saved model"
    return f"{what}, written by Heretic {version or '(unknown)'} on {date or 'an unknown day'}"


def _table(names: list[str], differences: list[Difference], console: Console) -> None:
    found = {difference.path: difference for difference in differences}
    width = max((len(clean_line(name)) for name in (*names, *found)), default=0)
    _line("", console)
    for name in sorted({*names, *found}):
        difference = found.get(name)
        state = "ok" if difference is None else difference.kind.value
        reason = "" if difference is None else difference.reason
        _line(f"  {state:<8} {clean_line(name):<{width}}  {clean_line(reason)}".rstrip(), console)
    _line("", console)


@contextmanager
def _progress(total: int, console: Console) -> Iterator[Advance]:
    """A bar that is gone afterwards, in a terminal; elsewhere nothing."""
    if not console.is_terminal or not total:
        yield lambda _count: None
        return
    columns = (TextColumn("Reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)


def _row(label: str, text: str, console: Console) -> None:
    _line(f"{label:<{LABEL_WIDTH}}{text}", console)


def _line(text: str, console: Console) -> None:
    printable = clean_line(text).encode(console.encoding, "backslashreplace").decode(console.encoding)
    console.print(Text(printable), soft_wrap=True)
