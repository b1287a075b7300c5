"""``heretic report``: what a search found and what was saved of it, as a page."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heretic.commands.base import Command, option, positional, switch
from heretic.common.errors import ConfigurationError
from heretic.common.file_names import existing_folder, expanded, safe_name
from heretic.common.integrity import manifest_of
from heretic.config.study import named_study, study_of_a_run

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


@dataclass(frozen=True, slots=True)
class ReportArguments:
    """What is asked for; storage and name of the study are None where the manifest is to say them."""

    folder: str | None = positional("[FOLDER]")
    storage: str | None = option("URL", "Database of the study.")
    study_name: str | None = option("NAME", "Name of the study in the database.")
    config: str | None = option(
        "PATH",
        "Without FOLDER: configuration file to take these two from. [config.toml where there is one]",
    )
    directions: str | None = option("FILE", "Direction file, for the quality of the directions by layer.")
    open: bool = switch("Open the page in the browser.")
    output: str | None = option(
        "DIR",
        "Folder to write the report to; an earlier report in it is replaced. [FOLDER_report, or NAME_report for a "
        "study]",
    )

    def __post_init__(self) -> None:
        if self.folder is not None and self.config is not None:
            raise ConfigurationError(
                "--config is for a report without a folder; name the study with --storage instead."
            )


def run(arguments: ReportArguments, printer: "Printer") -> int:
    """Write a report; returns the exit code.

    Raises:
        UserError: The folder, the study or the output cannot be used; nothing was written.
    """
    from heretic.directions.files import read_direction_file
    from heretic.report.extras import EXTRAS_NAME, Extras, read_extras
    from heretic.report.source import StudySource, read_report_data, study_of
    from heretic.report.words import sampled_sentence
    from heretic.report.write import CHART_FOLDER, check_report_folder, report_folder, write_report
    from heretic.search.status import usual_study

    manifest: dict[str, Any] | None = None
    extras = Extras()
    if arguments.folder is None:
        url, found = study_of_a_run(arguments.storage, arguments.study_name, arguments.config, os.environ, Path.cwd())
        study = StudySource(url, found or usual_study(url))
        usual = Path(f"{safe_name(study.name, 'study')}_report")
    else:
        storage, name = named_study(arguments.storage, arguments.study_name)
        folder = existing_folder(arguments.folder)
        manifest = manifest_of(folder)
        study = study_of(manifest, folder, storage, name)
        usual = report_folder(folder)
        extras = read_extras(usual / CHART_FOLDER / EXTRAS_NAME, manifest.get("created"))
    target = check_report_folder(usual if arguments.output is None else Path(arguments.output))
    if arguments.directions is not None:
        file = read_direction_file(expanded(arguments.directions))
        extras = replace(extras, quality=tuple(file.directions.quality.tolist()))
    data = read_report_data(manifest, study, extras)
    page = write_report(target, data)
    printer.row("Report", str(page))
    address = page.resolve().as_uri()
    printer.row("", address)
    if arguments.open:
        import webbrowser

        if not webbrowser.open(address):
            printer.row("", "No browser could be started here; open that address yourself.")
    for sentence in (data.no_records, sampled_sentence(data), data.no_importances):
        if sentence:
            printer.row("", sentence)
    return 0


COMMAND = Command(
    "report",
    ReportArguments,
    run,
    summary="Write what a search found, or was saved of it, as an HTML page.",
    description="""\
Write a report: one HTML page that needs no network, heretic_report.html, and
its charts as PNG files. It shows the trials and the Pareto front, which
parameters matter, the edit layer by layer, and what held-out prompts showed.

FOLDER is a model that Heretic saved. Its manifest says what was edited and
measured, and which study it came from; where that study is not found, the
report has no front and says why. Without FOLDER the report is about a study:
the one that is named, or that runs or ran last in this folder.
""",
    examples={
        "out": "The model in the folder out and its study, as the folder out_report.",
        "--study-name mine": "A study alone, as the folder mine_report.",
    },
    exit_codes="0 done, 1 failed, 2 no such study or something given cannot be used, 130 interrupted.",
)
