"""Where a report comes from: a saved folder, and the study that its edit came from, which need not be at hand."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from heretic.common.errors import ConfigurationError, StudyError, UserError
from heretic.config.study import sqlite_file, study_of_a_run
from heretic.report.collect import report_data
from heretic.report.data import ReportData
from heretic.report.extras import Extras
from heretic.results.trial import TrialRecord
from heretic.search.records import stored_records
from heretic.search.status import StudyReader
from heretic.search.storage import shown_url, sqlite_url, storage_errors


@dataclass(frozen=True, slots=True)
class StudySource:
    """A study to read, or why there is none.

    Attributes:
        url: Its storage.
        name: Its name.
        named: Whether it was named on the command line: then it has to be there.
        missing: Why there is none.
        others: Further storages whose file has that name; the first that holds the saved trial is read.
    """

    url: str = ""
    name: str = ""
    named: bool = True
    missing: str = ""
    others: tuple[str, ...] = ()


def study_of(manifest: Mapping[str, Any], folder: Path, storage: str | None, study_name: str | None) -> StudySource:
    """The study that a saved model came from: as the command line says, else as its manifest does.

    Args:
        manifest: Of the folder.
        folder: Where the model was saved.
        storage: Database that the command line names, if it does.
        study_name: The same of the study's name.

    Raises:
        UserError: The command line names a part of it, and the manifest not the rest.
    """
    settings = manifest.get("settings")
    given = settings if isinstance(settings, dict) else {}
    name, url = study_name or given.get("study_name"), storage or given.get("storage")
    named = storage is not None or study_name is not None
    if not isinstance(name, str) or not isinstance(url, str):
        return _absent("The manifest does not say which study the model came from", named)
    if storage is not None:
        return StudySource(url, name)
    try:
        shown_url(url)
        file = sqlite_file(url)
    except StudyError:
        return _absent("The manifest names no study database that can be used", named)
    if file is None:
        return _absent("The model's study is in a database that is not read unasked", named)
    # Relative to where the model was saved from: here, or beside the folder. Of absolute paths a manifest has the name.
    places = [file, folder.parent / file]
    note = ""
    try:
        configured = sqlite_file(study_of_a_run(None, None, None, os.environ, Path.cwd())[0])
        places += [configured] if configured is not None and configured.name == file.name else []
    except ConfigurationError as error:
        note = f" ({str(error).rstrip('.')})"
    urls = list(dict.fromkeys(sqlite_url(place) for place in places if place.is_file()))
    if not urls:
        return _absent(f"The study file {file.name} that the model came from is not here{note}", named)
    return StudySource(urls[0], name, named, others=tuple(urls[1:]))


def _absent(reason: str, named: bool) -> StudySource:
    if named:
        raise UserError(f"{reason}; name it with --storage.")
    return StudySource(missing=f"{reason}, so the trials are not shown; name it with --storage.")


def read_report_data(manifest: Mapping[str, Any] | None, study: StudySource, extras: Extras) -> ReportData:
    """What a report says.

    Raises:
        UserError: The manifest is damaged.
        StudyError: The study was named and cannot be read, or is not the one that the model came from.
    """
    shown: dict[str, Any] = {"examples": extras.examples, "quality": extras.quality}
    if study.missing:
        return report_data(manifest, (), None, **shown, no_records=study.missing)
    problems = []
    for url in (study.url, *study.others):
        try:
            with _open(url, study.name) as (opened, records):
                _check_trial(manifest, records, url, study.name)
                return report_data(manifest, records, opened, **shown, no_records="No trial is finished yet.")
        except StudyError as error:
            problems.append(error)
    if study.named:
        raise problems[0]
    # It was not asked for, and the model can be shown without it.
    return report_data(manifest, (), None, **shown, no_records=f"The trials are not shown: {problems[0]}")


@contextmanager
def _open(url: str, name: str) -> Iterator[tuple[optuna.Study, list[TrialRecord]]]:
    with StudyReader(url, name) as reader:
        reader.read()
        with storage_errors(url):
            yield reader.study, stored_records(reader.study)


def _check_trial(manifest: Mapping[str, Any] | None, records: Sequence[TrialRecord], url: str, name: str) -> None:
    """Refuse a study that merely has the name of the one that the model came from."""
    if manifest is None or manifest.get("optuna_trial_number") is None:
        return
    number, plan = manifest["optuna_trial_number"], manifest.get("plan")
    plan = plan if isinstance(plan, dict) else {}
    if not any(record.number == number and record.plan.is_stored_as(plan) for record in records):
        raise StudyError(
            f"The study {name} in {shown_url(url)} does not hold the trial that was saved; name the study "
            "that the model came from with --storage and --study-name."
        )
