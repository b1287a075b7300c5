"""What calibration found, kept with the study, so that a run that goes on with it does not measure again.

It holds while everything that decides it is the same: the model's weights and number format, the device and what this
process computes with, the prompts, and every setting that differs from its default.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import torch

from heretic.config import Settings
from heretic.models.loaded import LoadedModel, parameter_fingerprint
from heretic.prompts.sets import PromptSets
from heretic.results import reading
from heretic.run.identity import unusual
from heretic.search.private_api import set_study_attribute, study_attributes
from heretic.search.storage import storage_errors

CALIBRATION_ATTRIBUTE = "calibration"
"""Attribute of a study that keeps it."""
DECIDING = ("batch_size", "max_batch_size", "response_prefix", "threads", "candidates", "device", "device_map")
"""Settings that decide it and are no part of what a study measures."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class KeptCalibration:
    """What was found.

    Attributes:
        conditions: Checksum of what decides it, see `conditions`.
        batch_size: Rows of one batch.
        response_prefix: Text that every answer starts with.
        threads: That a CPU computes with; 0 where none does.
        candidates: K, how many plans are measured at once.
    """

    conditions: str
    batch_size: int
    response_prefix: str
    threads: int
    candidates: int


def conditions(settings: Settings, loaded: LoadedModel, prompts: PromptSets) -> str:
    """Checksum of everything that decides what calibration finds; of the model as it was loaded."""
    every = (prompts.baseline, prompts.target, prompts.baseline_evaluation, prompts.answered)
    deciding: dict[str, Any] = {
        "model": [parameter_fingerprint(loaded.model), loaded.dtype, loaded.quantization],
        "prompts": [part.fingerprint for part in every],
        "settings": [unusual(settings), settings.model_dump(mode="json", include=set(DECIDING))],
        "machine": [*_machine(loaded.device), torch.__version__],
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _machine(device: torch.device) -> list[str]:
    """What computes."""
    if device.type == "cuda":
        return [str(device), torch.cuda.get_device_name(device)]
    threads = [os.environ.get(name, "") for name in _THREADS]
    return [str(device), platform.machine(), str(os.cpu_count()), torch.backends.cpu.get_cpu_capability(), *threads]


def kept_calibration(attributes: Mapping[str, object]) -> KeptCalibration | None:
    """What a study keeps; None where it keeps nothing that can be read, and is measured again."""
    stored = attributes.get(CALIBRATION_ATTRIBUTE)
    if stored is None:
        return None
    try:
        values = reading.table(stored, "the calibration")
        return KeptCalibration(
            reading.text(values.get("conditions"), "conditions"),
            reading.whole(values.get("batch_size"), "batch_size", least=1),
            reading.text(values.get("response_prefix"), "response_prefix"),
            reading.whole(values.get("threads"), "threads"),
            reading.whole(values.get("candidates"), "candidates", least=1),
        )
    except ValueError:  # of another version, or damaged: measuring costs seconds
        return None


def keep_calibration(study: optuna.Study, url: str, found: KeptCalibration) -> None:
    """Store with a study what a run found.

    Raises:
        StudyError: The storage failed.
    """
    values = asdict(found)
    with storage_errors(url):
        if study_attributes(study).get(CALIBRATION_ATTRIBUTE) != values:
            set_study_attribute(study, CALIBRATION_ATTRIBUTE, values)
