"""``heretic verify``: a model folder compared with its manifest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heretic.commands.base import Command, positional
from heretic.common.errors import HereticError, UserError
from heretic.common.file_names import existing_folder
from heretic.common.integrity import (
    CHECKSUMS_ONLY,
    MANIFEST_NAME,
    Difference,
    DifferenceKind,
    check_folder,
    entries_of,
    harmful,
    has_manifest,
    read_manifest_file,
)
from heretic.interface.formatting import clean_line, size

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


@dataclass(frozen=True, slots=True)
class VerifyArguments:
    """What is asked for."""

    folder: str = positional("FOLDER")


def run(arguments: VerifyArguments, printer: "Printer") -> int:
    """Compare a folder with its manifest and print what was found; returns the exit code.

    Raises:
        UserError: There is no such folder, or no manifest in it that can be read.
    """
    folder = existing_folder(arguments.folder)
    if not has_manifest(folder):
        raise UserError(
            f"{arguments.folder} has no {MANIFEST_NAME} to compare its files with; 'heretic checksum "
            f"{arguments.folder}' writes one for the files as they are now."
        )
    manifest = read_manifest_file(folder / MANIFEST_NAME)
    entries = entries_of(manifest)
    total = sum(entry.size for entry in entries.values())
    printer.row("Folder", str(folder))
    printer.row("Manifest", _origin(manifest))
    printer.row("Files", f"{len(entries)}, {size(total)}")
    with printer.reading(total) as advance:
        differences = check_folder(folder, advance)
    for line in ("", *_table(entries, differences), ""):
        printer.line(line)
    refused = harmful(differences)
    if not refused:
        printer.line("Every file is as in the manifest.")
        if differences:
            printer.line(f"No part of the model: {', '.join(clean_line(other.path) for other in differences)}.")
        return 0
    kinds = [difference.kind for difference in refused]
    counts = [f"{kinds.count(kind)} {kind.value}" for kind in DifferenceKind if kind in kinds]
    printer.line(f"The folder is not as its manifest says: {', '.join(counts)}.")
    printer.line("Get or save the model again. If the change is meant, write the checksums anew with")
    printer.line(f"  heretic checksum {arguments.folder} --replace")
    return HereticError.exit_code


def _origin(manifest: Mapping[str, object]) -> str:
    """Who wrote a manifest, and when."""
    versions = manifest.get("versions")
    version = versions.get("heretic") if isinstance(versions, dict) else None
    date = manifest.get("checksums_written") or manifest.get("created")
    what = "checksums" if manifest.get("format") == CHECKSUMS_ONLY else "saved model"
    return f"{what}, written by Heretic {version or '(unknown)'} on {date or 'an unknown day'}"


def _table(names: Iterable[str], differences: Iterable[Difference]) -> list[str]:
    """One line a file."""
    by_path = {difference.path: difference for difference in differences}
    shown = {name: clean_line(name) for name in sorted({*names, *by_path})}
    width = max(map(len, shown.values()), default=0)
    lines = []
    for name, text in shown.items():
        difference = by_path.get(name)
        state, reason = ("ok", "") if difference is None else (difference.kind.value, clean_line(difference.reason))
        lines.append(f"  {state:<8} {text:<{width}}  {reason}".rstrip())
    return lines


COMMAND = Command(
    "verify",
    VerifyArguments,
    run,
    summary="Compare a saved model with its manifest.",
    description="""\
Compare every file of a model folder with the checksums in its manifest
(heretic_metadata.json), and list those that changed, are missing, or are not
in the manifest. All files are read, which takes about a second per gigabyte.
An edited README.md and what people and systems leave beside a model (._*,
.nfs*, .gguf files, notebooks' checkpoints) are listed, but not refused.

Folders that Heretic saved have a manifest; heretic checksum writes one for any
other. heretic compares such a model by itself before it is loaded.

A manifest shows that files were damaged or exchanged. It is no signature:
whoever can change the files can write another one.
""",
    examples={"out": "The files in the folder out, one line each."},
    exit_codes="0 every file is as in the manifest, 1 files differ, 2 the folder cannot be checked.",
)
