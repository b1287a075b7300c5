"""``heretic report``: what a search found and what was saved of it, as a page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console
from rich.text import Text
from sqlalchemy.engine import make_url

from heretic.commands.folder_command import existing_folder
from heretic.commands.report_arguments import ReportArguments
from heretic.common.errors import StudyError, UserError
from heretic.common.file_names import safe_name
from heretic.common.integrity import CHECKSUMS_ONLY, MANIFEST_NAME, has_manifest, read_manifest_file
from heretic.interface.console import LABEL_WIDTH, make_console
from heretic.interface.formatting import clean_line, hang
from heretic.report.collect import report_data
from heretic.report.data import ReportData
from heretic.report.kept import KEPT_NAME, Kept, read_kept
from heretic.report.write import CHART_FOLDER, check_report_folder, report_folder, write_report
from heretic.results.trial import TrialRecord
from heretic.search.status import StudyReader
from heretic.search.storage import shown_url, sqlite_file, storage_errors, stored_records


@dataclass(frozen=True, slots=True)
class _Study:
    """A study to read, or why there is none.

    Attributes:
        url: Its storage.
        name: Its name.
        asked: Whether it was named on the command line: then it has to be there.
        missing: Why there is none.
    """

    url: str = ""
    name: str = ""
    asked: bool = True
    missing: str = ""


def run_report(arguments: ReportArguments, console: Console | None = None) -> int:
    """Write a report; returns the exit code.

    Raises:
        UserError: The folder, the study or the output cannot be used; nothing was written.
    """
    console = make_console() if console is None else console
    manifest: dict[str, Any] | None = None
    kept = Kept()
    if arguments.folder is None:
        study = _Study(arguments.storage or "", arguments.study_name or "")
        usual = Path(f"{safe_name(study.name, 'study')}_report")
    else:
        folder = existing_folder(arguments.folder)
        manifest = _manifest(folder)
        study = _study_of(manifest, folder, arguments)
        usual = report_folder(folder)
        kept = read_kept(usual / CHART_FOLDER / KEPT_NAME, manifest.get("created"))
    target = check_report_folder(usual if arguments.output is None else Path(arguments.output))
    if arguments.directions is not None:
        kept = replace(kept, quality=tuple(_quality(Path(arguments.directions))))
    data = _data(manifest, study, kept)
    written = write_report(target, data)
    _row("Report", str(written), console)
    for sentence in (data.no_records, data.no_importances):
        if sentence:
            _row("", sentence, console)
    return 0


def _manifest(folder: Path) -> dict[str, Any]:
    if not has_manifest(folder):
        raise UserError(f"{folder} has no {MANIFEST_NAME}; name a folder that Heretic saved.")
    manifest = read_manifest_file(folder / MANIFEST_NAME)
    if manifest.get("format") == CHECKSUMS_ONLY:
        raise UserError(f"The {MANIFEST_NAME} of {folder} holds checksums only; name a folder that Heretic saved.")
    return manifest


def _study_of(manifest: Mapping[str, Any], folder: Path, arguments: ReportArguments) -> _Study:
    """The study that a saved model came from: as the command line says, else as its manifest does."""
    settings = manifest.get("settings")
    own = settings if isinstance(settings, dict) else {}
    name = arguments.study_name or own.get("study_name")
    url = arguments.storage or own.get("storage")
    asked = arguments.storage is not None or arguments.study_name is not None
    if not isinstance(name, str) or not isinstance(url, str):
        return _absent("The manifest does not say which study the model came from", asked)
    if arguments.storage is not None:
        return _Study(url, name)
    try:
        shown_url(url)
        file = sqlite_file(url)
    except StudyError:
        return _absent("The manifest names no study database that can be used", asked)
    if file is None:
        return _absent("The model's study is in a database that is not read unasked", asked)
    # Relative to where the model was saved from: here, or beside the folder.
    for place in (file.expanduser(), folder.parent / file):
        if place.is_file():
            return _Study(make_url(url).set(database=str(place.absolute())).render_as_string(False), name, asked)
    return _absent(f"The study file {file.name} that the model came from is not here", asked)


def _absent(reason: str, asked: bool) -> _Study:
    if asked:
        raise UserError(f"{reason}; name it with --storage.")
    return _Study(missing=f"{reason}, so the trials are not shown; name it with --storage.")


def _data(manifest: Mapping[str, Any] | None, study: _Study, kept: Kept) -> ReportData:
    own: dict[str, Any] = {"examples": kept.examples, "quality": kept.quality}
    if study.missing:
        return report_data(manifest, (), None, **own, no_records=study.missing)
    try:
        with _open(study) as (opened, records):
            _check_trial(manifest, records, study)
            return report_data(manifest, records, opened, **own, no_records="No trial is finished yet.")
    except StudyError as error:
        if study.asked:
            raise
        # It was not asked for, and the model can be shown without it.
        return report_data(manifest, (), None, **own, no_records=f"The trials are not shown: {error}")


@contextmanager
def _open(study: _Study) -> Iterator[tuple[optuna.Study, list[TrialRecord]]]:
    with StudyReader(study.url, study.name) as reader:
        reader.read()
        with storage_errors(study.url):
            yield reader.study, stored_records(reader.study)


def _check_trial(manifest: Mapping[str, Any] | None, records: Sequence[TrialRecord], study: _Study) -> None:
    """Refuse a study that merely has the name of the one that the model came from."""
    if manifest is None or manifest.get("optuna_trial_number") is None:
        return
    number, plan = manifest["optuna_trial_number"], manifest.get("plan")
    if not any(record.number == number and record.plan.to_json() == plan for record in records):
        raise StudyError(
            f"The study {study.name} in {shown_url(study.url)} does not hold the trial that was saved; name the study "
            "that the model came from with --storage and --study-name."
        )


def _quality(path: Path) -> list[float]:
    # Imports torch.
    from heretic.directions.files import read_direction_file

    found: list[float] = read_direction_file(path.expanduser()).directions.quality.tolist()
    return found


def _row(label: str, text: str, console: Console) -> None:
    width = min(console.width, 100) if console.is_terminal else None
    for line in hang(label, clean_line(text), LABEL_WIDTH, width):
        printable = line.encode(console.encoding, "backslashreplace").decode(console.encoding)
        console.print(Text(printable), soft_wrap=True)
