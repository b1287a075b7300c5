"""What is told of runs: by the studies of a storage, and by the files that claims of studies are."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

from heretic.common.errors import VersionSkewError
from heretic.common.integrity import read_foreign
from heretic.search.private_api import merged_attributes
from heretic.search.pulse import RUNNING, Pulse, pulses_in, run_state

READINGS, READING_SECONDS = 3, 0.02


def studies_of(storage: optuna.storages.RDBStorage) -> dict[str, str]:
    """The studies of a storage by name, each with the state of its run, see StudyStatus."""
    return {name: run_state(pulse) for name, pulse in pulses_of(storage).items()}


def pulses_of(storage: optuna.storages.RDBStorage) -> dict[str, Pulse | None]:
    """The studies of a storage by name, each with what its run told last."""
    return {
        study.study_name: read_pulse(merged_attributes(study.user_attrs, study.system_attrs))[0]
        for study in storage.get_all_studies()
    }


def read_pulses(attributes: Mapping[str, Any]) -> tuple[tuple[Pulse, ...], str]:
    """A study's pulses, the latest last; or none and a sentence where one cannot be read."""
    try:
        return tuple(pulses_in(attributes).values()), ""
    except VersionSkewError as error:
        return (), str(error)


def read_pulse(attributes: Mapping[str, Any]) -> tuple[Pulse | None, str]:
    """Of a study's pulses the latest that goes on, else the latest; likewise."""
    pulses, problem = read_pulses(attributes)
    return next(reversed([pulse for pulse in pulses if run_state(pulse) in RUNNING] or pulses), None), problem


def told_in(file: Path) -> Pulse | None:
    """What a run told in the file of its claim; None where that cannot be read."""
    for _attempt in range(READINGS):
        try:
            return Pulse.from_json(json.loads(read_foreign(file)))
        except (OSError, ValueError, VersionSkewError):
            # It may be about to be written.
            time.sleep(READING_SECONDS)
    return None
