"""``heretic clean``: what Heretic left in a folder besides saved models, and removing it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, positional, switch
from heretic.common.errors import ConfigurationError, UserError
from heretic.common.file_names import expanded

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


@dataclass(frozen=True, slots=True)
class CleanArguments:
    """What is asked for."""

    yes: bool = switch("Remove without being asked.")
    names: tuple[str, ...] = positional("[NAME ...]")

    def __post_init__(self) -> None:
        if self.yes and not self.names:
            raise ConfigurationError("--yes says that something may be removed; name it.")


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Something that Heretic wrote.

    Attributes:
        name: What a person names it by: its path from here.
        what: What it is.
        paths: All of its files and folders.
        studies: Whether these are studies, which a run may work on.
    """

    name: str
    what: str
    paths: tuple[Path, ...]
    studies: bool = False

    @property
    def bytes(self) -> int:
        """What it takes on the disk; links are not followed."""
        files = (file for path in self.paths for file in (path, *(path.rglob("*") if _is_folder(path) else ())))
        return sum(file.lstat().st_size for file in files if not _is_folder(file))


def run(arguments: CleanArguments, printer: "Printer") -> int:
    """List what there is, or remove what is named; returns the exit code.

    Raises:
        UserError: There is nothing of that name.
        StudyError: A run works on one of the studies.
        SelectionError: Nobody can be asked.
    """
    from heretic.interface.formatting import size

    here = Path.cwd()
    found = {item.name: item for item in left_behind(here)}
    if not arguments.names:
        for item in found.values():
            printer.row(size(item.bytes), f"{item.name}: {item.what}")
        printer.line("To remove some: heretic clean NAME ..." if found else "Heretic left nothing in this folder.")
        return 0
    unknown = [name for name in arguments.names if _plain(name) not in found]
    if unknown:
        raise UserError(f"There is no {unknown[0]} among what Heretic left here; 'heretic clean' lists it.")
    chosen = [found[name] for name in dict.fromkeys(map(_plain, arguments.names))]
    from heretic.interface.asking import agrees
    from heretic.search.claim import all_claimed

    question = f"Remove {', '.join(item.name for item in chosen)} ({size(sum(item.bytes for item in chosen))})?"
    if not arguments.yes and not agrees(question, "Add --yes to remove it without being asked."):
        printer.line("Nothing was removed.")
        return 0
    with ExitStack() as claims:
        for item in chosen:
            if item.studies:
                claims.enter_context(all_claimed(item.paths[0]))
        for item in chosen:
            _remove(item)
            printer.line(f"{item.name} is gone.")
    return 0


def left_behind(folder: Path) -> Iterator[LeftBehind]:
    """Everything that runs in a folder left, saved models excepted, and the user's own profiles."""
    from heretic.common.unfinished import half_written
    from heretic.config.study import sqlite_file
    from heretic.report.write import is_report
    from heretic.search.claim import set_aside_files
    from heretic.search.profile_store import default_store
    from heretic.search.profiles import ProfileError
    from heretic.search.storage import claim_files, study_in
    from heretic.web import HISTORY

    file = sqlite_file(study_in(folder)[0])
    if file is not None and file.exists():
        # A journal of what was being written when a run was killed.
        beside = (*claim_files(file), *(file.with_name(f"{file.name}-{kind}") for kind in ("journal", "wal", "shm")))
        paths = (file, *(path for path in beside if path.exists()))
        yield LeftBehind(_shown(file, folder), "studies with their trials", paths, studies=True)
        for aside in set_aside_files(file):
            yield LeftBehind(_shown(aside, folder), "a damaged study file that was put aside", (aside,))
    for entry in half_written(folder):
        yield LeftBehind(entry.name, "a model that a killed run was saving", (entry,))
    for entry in sorted(filter(_is_folder, folder.iterdir())):
        if entry.name == HISTORY:
            yield LeftBehind(entry.name, "conversations and votes of the chat page", (entry,))
        elif is_report(entry):
            yield LeftBehind(entry.name, "a report", (entry,))
    try:
        store = default_store(os.environ)
    except ProfileError:  # without a home folder there are none
        return
    if store.is_file():
        yield LeftBehind(str(store), "your best plans, which searches begin with", (store,))


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _plain(name: str) -> str:
    """A name as `left_behind` gives it."""
    return os.path.normpath(expanded(name))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(item: LeftBehind) -> None:
    """Remove all of it.

    Raises:
        UserError: It cannot be removed.
    """
    try:
        for path in item.paths:
            if _is_folder(path):
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{item.name} cannot be removed ({error.strerror}); check its permissions.") from error


COMMAND = Command(
    "clean",
    CleanArguments,
    run,
    summary="List what Heretic left here, and remove what is named.",
    description="""\
List what Heretic left in this folder besides saved models (studies, reports,
conversations, half-written folders of killed runs), and the profiles of your
own, with their sizes; or remove what is named, after a question. A study file
that a run works on is left alone; 'heretic studies --delete' takes one study
out of it.
""",
    examples={"": "What there is.", "out_report chat_history": "Remove these."},
    exit_codes="0 done, 1 failed, 2 something given cannot be used, 130 interrupted.",
)
