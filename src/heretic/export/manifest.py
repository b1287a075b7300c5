"""The manifest: where a saved folder comes from, what was measured, and the checksum of every file in it."""

import json
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

import heretic
from heretic.common.errors import UserError, first_line
from heretic.common.integrity import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    FileEntry,
    checksums,
    files_of,
    manifest_of,
)
from heretic.export.content import ExportContent, ExportFormat
from heretic.export.redact import for_others, publishable
from heretic.models.loaded import LoadedModel
from heretic.models.location import shown_model
from heretic.results.score import Score
from heretic.results.tables import score_interval

_PACKAGES = ("torch", "transformers", "optuna", "peft", "safetensors")


class Manifest(BaseModel):
    """What ``heretic_metadata.json`` holds.

    Attributes:
        source: Name, commit, dtype, quantisation and weight format of the original model, and the commit of the Python
            code that it was loaded with.
        format: ``merged`` or ``adapter``.
        behavior: The behaviour that was edited.
        trial: Trial number as the console shows it, from 1, or None.
        optuna_trial_number: The same trial's number in the stored study, from 0, or None.
        plan: EditPlan as JSON.
        scores: Scores of the saved weights as JSON; counts carry a 95 % interval.
        search: How the weights that the search ran on were quantised, and the scores there if they are other weights.
        directions: Method and provenance of the directions.
        adjustments: What every plan of the run was changed by, in sentences.
        settings: The run's settings, secrets masked.
        verification: How the folder was checked before it got its name.
        versions: Package name -> version.
        created: UTC time, ISO 8601.
        files: Path relative to the folder, with forward slashes -> entry; every file but the manifest.
    """

    model_config = ConfigDict(frozen=True)

    manifest_version: int = FORMAT_VERSION
    source: dict[str, Any]
    format: ExportFormat
    behavior: str
    trial: int | None
    optuna_trial_number: int | None
    plan: dict[str, Any]
    scores: tuple[dict[str, Any], ...]
    search: dict[str, Any]
    directions: dict[str, Any]
    # Folders of earlier versions say nothing about these.
    adjustments: tuple[str, ...] = ()
    held_out: dict[str, Any] | None = None
    capability: dict[str, Any] | None = None
    settings: dict[str, Any]
    verification: dict[str, Any]
    versions: dict[str, str]
    created: str
    files: dict[str, FileEntry]

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return self.model_dump(mode="json")


def _score_json(score: Score) -> dict[str, Any]:
    data = score.to_json()
    interval = score_interval(score)
    if interval is not None:
        data["interval_95"] = list(interval)
    return data


def _published(value: Any) -> Any:
    return publishable(value, for_others)


def write_manifest(
    folder: Path,
    loaded: LoadedModel,
    content: ExportContent,
    export_format: ExportFormat,
    verification: Mapping[str, Any],
) -> Manifest:
    """Write the manifest into a folder that is otherwise complete.

    Raises:
        OSError: A file cannot be read or the manifest not written.
        TypeError: Settings or provenance hold something that is no JSON value.
    """
    manifest = Manifest(
        source=_published(
            {
                "name": shown_model(loaded.name),
                "commit": loaded.commit,
                "architecture": type(loaded.model).__name__,
                "dtype": str(loaded.model.dtype).removeprefix("torch."),
                "quantization": loaded.quantization,
                "weights": loaded.weights,
                "code": None
                if loaded.code is None
                else {"repository": loaded.code.repository, "commit": loaded.code.commit},
            }
        ),
        format=export_format,
        behavior=",".join(content.behaviors),
        trial=content.shown_trial,
        optuna_trial_number=content.trial,
        plan=content.plan.to_json(),
        scores=tuple(_published(_score_json(score)) for score in content.scores or ()),
        search=_published(
            {
                "quantization": content.search_quantization,
                "scores": [_score_json(score) for score in content.search_scores or ()],
            }
        ),
        directions=_published({"method": content.direction_method, "provenance": content.direction_provenance}),
        settings=_published(content.settings),
        verification=_published(verification),
        versions={
            "heretic": heretic.__version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        files=checksums(files_of(folder)),
        adjustments=content.adjustments,
        held_out=None if content.held_out is None else _published(content.held_out.to_json()),
        capability=None if content.capability is None else _published(content.capability.to_json()),
    )
    text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=True) + "\n"
    (folder / MANIFEST_NAME).write_text(text, encoding="ascii")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a saved folder's manifest.

    Raises:
        UserError: There is none, or it cannot be understood.
    """
    data = manifest_of(folder)
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        path = folder / MANIFEST_NAME
        raise UserError(f"{path} is damaged or too new ({first_line(error)}); save the model again.") from error
