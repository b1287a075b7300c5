"""``heretic open``: the menu of a study that was searched before, by its name alone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heretic.commands.base import Command, option, positional, switch
from heretic.common.errors import StudyError, VersionSkewError, first_line
from heretic.config.study import study_of_a_run

if TYPE_CHECKING:
    from heretic.config import Settings
    from heretic.interface.printer import Printer
    from heretic.workflow import Choose

NEVER = {
    "auto_select": False,
    "auto_select_path": None,
    "evaluate_model": None,
    "hf_upload": None,
    "start_from": None,
    "time_limit": None,
}
"""Settings that would have something else done than to choose."""


@dataclass(frozen=True, slots=True)
class OpenArguments:
    """What is asked for."""

    study: str | None = positional("[STUDY]")
    storage: str | None = option("URL", "Database of the study. [what a run in this folder uses]")
    device: str | None = option("DEVICE", "Device to compute on, as in a run. [as the study's run]")
    trust_remote_code: bool = switch("Let the model run Python code from its repository, as in a run.")
    allow_pickle: bool = switch("Also load pickled weights, as in a run.")


def run(arguments: OpenArguments, printer: "Printer") -> int:
    """Load the study's model and show the menu; returns the exit code.

    Raises:
        SelectionError: There is no terminal.
        UserError: See `open_stored`.
    """
    from heretic.interface.asking import require_terminal

    require_terminal("choose a trial")
    own: dict[str, Any] = {name: True for name in ("trust_remote_code", "allow_pickle") if getattr(arguments, name)}
    if arguments.device is not None:
        own["device"] = arguments.device
    return open_stored(arguments.storage, arguments.study, own)


def open_stored(storage: str | None, study: str | None, own: Mapping[str, Any], choose: "Choose | None" = None) -> int:
    """Load a stored study's model and choose from its trials as they are stored; returns the exit code.

    Args:
        storage: What the command line says, if anything.
        study: The same.
        own: Settings that are asked for now.
        choose: What is done with the trials, where no menu asks.

    Raises:
        StudyError: There is no such study, it has no finished trial, or does not say what it was made with.
        UserError: What it was made with cannot be used any more.
    """
    from heretic.config import LoadedSettings
    from heretic.config.load import with_source
    from heretic.interface.terminal import run_in_terminal
    from heretic.run.kept_checks import SETTINGS_ATTRIBUTE
    from heretic.run.rules import check_options
    from heretic.search.status import StudyReader

    url, configured = study_of_a_run(storage, study, None, os.environ, Path.cwd())
    with StudyReader(url, configured) as reader:
        name, finished, attributes = reader.name, reader.read().finished, reader.attributes()
    if not finished:
        raise StudyError(f"The study {name} has no finished trial yet; run the command again that began it.")
    settings = stored_settings(attributes, {**own, "storage": url, "study_name": name, **NEVER}, name)
    check_options(settings)
    values = settings.model_dump(mode="json")
    stored = {key: with_source(values[key], "the study") for key in attributes[SETTINGS_ATTRIBUTE] if key not in own}
    return run_in_terminal(LoadedSettings(settings, None, None, stored), choose, _refuse, opens=True)


def stored_settings(attributes: Mapping[str, Any], own: Mapping[str, Any], name: str) -> "Settings":
    """What a study's run was asked for, but for what is asked for now; a study says nothing of what lets code run.

    Raises:
        StudyError: The study does not say, or says it otherwise than this version.
    """
    from pydantic import ValidationError

    from heretic.config import Settings
    from heretic.run.kept_checks import SETTINGS_ATTRIBUTE, UNKEPT

    stored = attributes.get(SETTINGS_ATTRIBUTE)
    if not isinstance(stored, dict):
        raise StudyError(
            f"The study {name} was made by an earlier version and does not say with which options; run the command "
            "again that began it, which goes on with it."
        )
    kept = {key: value for key, value in stored.items() if key not in UNKEPT}
    try:
        return Settings.of([own, kept])
    except ValidationError as error:
        raise VersionSkewError(
            f"What the study {name} was made with is of a newer or older Heretic, or damaged ({first_line(error)}); "
            "run the command again that began it."
        ) from error


def _refuse(study: str, reason: str, _own: str) -> None:
    raise StudyError(
        f"The study {study} cannot be opened, since something it rests on has changed: {reason} Put back what it was "
        "made with, or run the command again that began it."
    )


COMMAND = Command(
    "open",
    OpenArguments,
    run,
    summary="Open the menu of a finished study: pick, chat, save, report.",
    description="""\
Open the menu of a study that was searched before, with what it was made with:
pick a trial, chat, save, upload. Nothing is searched, and what was measured of
a trial before is not measured again; trials that were saved are marked.

STUDY is its name, as 'heretic studies' lists it; without it, the study of this
folder that ran last. Relative paths of its options are looked up from here.
""",
    examples={"": "The latest study of this folder.", "Qwen3-4B-refusal": "This one."},
    exit_codes="0 left, 1 failed, 2 no such study or something given cannot be used, 130 interrupted.",
)
