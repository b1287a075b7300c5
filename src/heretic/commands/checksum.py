"""``heretic checksum``: a manifest for any model folder."""

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import heretic
from heretic.commands.base import Command, positional, switch
from heretic.common.errors import UserError
from heretic.common.file_names import existing_folder
from heretic.common.integrity import (
    CHECKSUMS_ONLY,
    FORMAT_VERSION,
    MANIFEST_NAME,
    checksums,
    files_of,
    has_manifest,
    read_manifest_file,
    write_manifest_file,
)
from heretic.interface.formatting import size

if TYPE_CHECKING:
    from heretic.interface.printer import Printer

_MODEL_FILES = ("config.json", "adapter_config.json")
_MODEL_ENDINGS = (".safetensors", ".gguf", ".bin")


@dataclass(frozen=True, slots=True)
class ChecksumArguments:
    """What is asked for."""

    folder: str = positional("FOLDER")
    replace: bool = switch(
        "Write the checksums anew where there is a manifest. What else stands in it (source, edit, scores) stays."
    )


def run(arguments: ChecksumArguments, printer: "Printer") -> int:
    """Write a folder's manifest; returns the exit code.

    Raises:
        UserError: There is no such folder, no model in it, or a manifest already; or it cannot be read or written.
    """
    folder = existing_folder(arguments.folder)
    exists = has_manifest(folder)
    if exists and not arguments.replace:
        raise UserError(
            f"{arguments.folder} has a {MANIFEST_NAME} already; compare the files with it by 'heretic verify "
            f"{arguments.folder}', or add --replace to write their checksums anew."
        )
    # One that cannot be understood is replaced as well: that is what was asked for.
    manifest = _further_content(folder / MANIFEST_NAME) if exists else {}
    try:
        files = files_of(folder)
        total = sum(path.stat().st_size for path in files.values())
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be read ({error.strerror}); check the file.") from error
    if not any(name in _MODEL_FILES or name.endswith(_MODEL_ENDINGS) for name in files):
        raise UserError(f"{arguments.folder} holds no model; name a folder with a config.json or weight files.")
    with printer.reading(total) as advance:
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
    printer.row("Manifest", str(folder / MANIFEST_NAME))
    printer.row("Files", f"{len(entries)}, {size(total)}")
    printer.line("'heretic verify' and the loading of the model compare the files with it from now on.")
    return 0


def _further_content(path: Path) -> dict[str, object]:
    """What a manifest says besides checksums; nothing where it cannot be understood."""
    try:
        return {name: value for name, value in read_manifest_file(path).items() if name != "files"}
    except UserError:
        return {}


COMMAND = Command(
    "checksum",
    ChecksumArguments,
    run,
    summary="Write a manifest for any model folder.",
    description="""\
Write a manifest (heretic_metadata.json) with the checksum of every file of a
model folder, which heretic verify and the loading of the model compare the
files with from then on.
""",
    examples={"path/to/folder": "From now on, a file that changes is noticed."},
)
