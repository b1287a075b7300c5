"""Refined directions, kept with the study whose trials rest on them.

A refinement found anew need not be the same one: another number of threads, another device, or memory that did not run
out this time are enough. The trials of one study would then rest on different directions, so a resumed one gets back
those that it began with.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
import safetensors.torch
from safetensors import SafetensorError

from heretic.common.errors import VersionSkewError
from heretic.config.study import sqlite_file
from heretic.directions.types import DirectionSet
from heretic.results import reading
from heretic.search.private_api import set_study_attribute, study_attributes
from heretic.search.storage import DIRECTIONS_ATTRIBUTE, Aspects, connected, storage_errors

PART = 32 * 1024
"""Characters of one attribute: what every database that Optuna writes to takes."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredDirections:
    """Directions with what they depend on.

    Attributes:
        identity: That of the study they were kept with; where model, prompts or method are others, so are directions.
        directions: In host memory, without their provenance.
    """

    identity: Aspects
    directions: DirectionSet


def stored_attributes(url: str, name: str) -> Mapping[str, object]:
    """Attributes of a stored study, none where there is no such study; no study is created.

    Raises:
        StudyError: The storage failed.
    """
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return {}
    with storage_errors(url):
        storage = connected(url)
        if name not in optuna.get_all_study_names(storage):
            return {}
        return study_attributes(optuna.load_study(study_name=name, storage=storage))


def decoded(attributes: Mapping[str, object], owner: str) -> StoredDirections | None:
    """The inverse of `encoded`; None where nothing is kept.

    Raises:
        VersionSkewError: What is kept is damaged; the message begins with `owner`.
    """
    stored = attributes.get(DIRECTIONS_ATTRIBUTE)
    if stored is None:
        return None
    try:
        header = reading.table(stored, "the header")
        count = reading.whole(header.get("parts"), "parts", most=len(attributes))
        data = base64.b64decode("".join(str(attributes.get(_part(index), "")) for index in range(count)), validate=True)
        if hashlib.sha256(data).hexdigest() != header.get("sha256"):
            raise ValueError("another checksum")
        tensors: dict[str, Any] = safetensors.torch.load(data)
        method = reading.text(header.get("method"), "method")
        identity = reading.table(header.get("identity"), "identity")
        return StoredDirections(identity, DirectionSet(**tensors, method=method))
    except (TypeError, ValueError, SafetensorError) as error:
        raise VersionSkewError(
            f"{owner} keeps directions that are damaged, or of a newer or older Heretic; name another --study-name."
        ) from error


def encoded(stored: StoredDirections) -> dict[str, object]:
    """Attributes that hold the directions; last the one that says that all are there.

    That one has identity, method and checksum, and in how many others the directions are.
    """
    tensors = {name: tensor.cpu().clone() for name, tensor in stored.directions.tensors().items()}
    data = safetensors.torch.save(tensors)
    text = base64.b64encode(data).decode("ascii")
    parts = [text[start : start + PART] for start in range(0, len(text), PART)]
    header = {
        "identity": dict(stored.identity),
        "method": stored.directions.method,
        "sha256": hashlib.sha256(data).hexdigest(),
        "parts": len(parts),
    }
    return {**{_part(index): part for index, part in enumerate(parts)}, DIRECTIONS_ATTRIBUTE: header}


def keep_directions(study: optuna.Study, url: str, directions: StoredDirections) -> None:
    """Store directions with a study; those that it has already stay.

    Raises:
        StudyError: The storage failed.
    """
    with storage_errors(url):
        if study_attributes(study).get(DIRECTIONS_ATTRIBUTE) is not None:
            return
        for name, value in encoded(directions).items():
            set_study_attribute(study, name, value)


def _part(index: int) -> str:
    return f"{DIRECTIONS_ATTRIBUTE}.{index}"
