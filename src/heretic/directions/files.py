"""Direction files: a direction set, the projections of the prompts it was found with, and where it comes from.

A safetensors file with the tensors ``vectors`` [L+1, k, D], ``weights`` [L+1, k], ``quality`` [L+1], optional ones of
the set, and, where they were measured, ``target_projections`` [n, L+1] and ``baseline_projections`` [m, L+1]; method
and provenance (JSON) are its metadata. Whatever such a file may hold is checked before it is used. One that is named
``.gguf`` is read as a control vector.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import heretic
from heretic.common.errors import UserError
from heretic.directions.addition import added
from heretic.directions.comparison import require_same_shape
from heretic.directions.control_vectors import SUFFIX, read_control_vector
from heretic.directions.projections import Projections
from heretic.directions.types import DirectionSet

_TARGET, _BASELINE = "target_projections", "baseline_projections"
_TOLERANCE = 1e-3
"""How far rounding may take a vector from unit length, or two from a right angle."""

_READ_TOLERANCE = 1e-2
"""The same for what a read vector, which may be long, reads of the vector that it belongs to."""


@dataclass(frozen=True, slots=True)
class DirectionFile:
    """What a direction file holds.

    Attributes:
        name: The file's name without its folder.
        directions: The set.
        projections: Of the prompts that the set was found with, or None where they were not measured.
    """

    name: str
    directions: DirectionSet
    projections: Projections | None


def created_now() -> dict[str, Any]:
    """The part of a provenance that any new file has: version and date (UTC)."""
    return {
        "heretic_version": heretic.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def write_direction_file(path: Path, directions: DirectionSet, projections: Projections | None = None) -> None:
    """Write a set, and the projections where there are any.

    Raises:
        UserError: The file cannot be written.
    """
    further = {} if projections is None else {_TARGET: projections.target, _BASELINE: projections.baseline}
    directions.save(path, further)


def read_direction_file(path: Path) -> DirectionFile:
    """Read and check a file.

    Raises:
        UserError: There is none, it is no direction file, or what it holds cannot be used; one sentence.
    """
    try:
        present, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:  # no access, a NUL character
        raise UserError(f"The path {str(path)!r} cannot be used ({error}); check it.") from error
    if not present:
        raise UserError(f"There is no file {path}; check the path, or write one with --save-directions.")
    if is_folder:
        raise UserError(f"{path} is a folder; name a direction file in it.")
    is_control_vector = path.suffix.lower() == SUFFIX
    directions = read_control_vector(path) if is_control_vector else DirectionSet.load(path)
    projections = None if is_control_vector else _projections(path)
    problem = _problem(directions) or (_projection_problem(projections, len(directions.vectors)) if projections else "")
    if problem:
        raise UserError(f"{path} cannot be used because {problem}; write it again.")
    in_fp32: dict[str, Any] = {name: tensor.float() for name, tensor in directions.tensors().items()}
    directions = replace(directions, **in_fp32)
    return DirectionFile(path.name, directions, Projections(*(t.float() for t in projections)) if projections else None)


def _projections(path: Path) -> list[Tensor] | None:
    try:
        with safe_open(path, framework="pt") as file:
            both = {_TARGET, _BASELINE} <= set(file.keys())
            return [file.get_tensor(name).clone() for name in (_TARGET, _BASELINE)] if both else None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read; write it again with --save-directions.") from error


def _problem(directions: DirectionSet) -> str:
    """What is wrong with a set, to stand after ``because``, or nothing."""
    vectors, tensors = directions.vectors, directions.tensors()
    if vectors.ndim != 3 or vectors.shape[0] < 2 or 0 in vectors.shape:
        return f"its vectors have the shape {tuple(vectors.shape)} instead of (layers + 1, directions, width)"
    for name, tensor in tensors.items():
        expected = {"weights": vectors.shape[:2], "quality": vectors.shape[:1]}.get(name, vectors.shape)
        if tensor.shape != expected:
            return f"its {name} have the shape {tuple(tensor.shape)} instead of {tuple(expected)}"
        if not tensor.is_floating_point():
            return f"its {name} are no floating-point numbers"
        # A quality that could not be found is NaN, and harms nothing.
        bad = (~tensor.isfinite()).flatten(1 if tensor.ndim > 1 else 0)
        if name != "quality" and bool(bad.any()):
            return f"its {name} are not finite at position {int(bad.any(-1).nonzero()[0])}"
    return _vector_problem(vectors.double(), directions.weights) or _read_problem(directions)


def _vector_problem(vectors: Tensor, weights: Tensor) -> str:
    lengths = vectors.norm(dim=-1)
    zero = lengths == 0
    odd = ((lengths - 1).abs() > _TOLERANCE) & ~zero
    if bool(odd.any()):
        position, index = odd.nonzero()[0].tolist()
        return f"a vector at position {position} has the length {float(lengths[position, index]):.3g} instead of 1"
    if bool(zero.all()):
        return "all its vectors are zero"
    # Embeddings of the last token often are the same for every prompt, so that position 0 has no direction.
    missing = zero[1:, 0] & (weights[1:, 0] != 0)
    if bool(missing.any()):
        return f"the vector at position {int(missing.nonzero()[0]) + 1} is zero"
    skew = (torch.tril(vectors @ vectors.mT, -1).abs() > _TOLERANCE).flatten(1).any(-1)
    if bool(skew.any()):
        return f"its vectors at position {int(skew.nonzero()[0])} are not orthogonal to each other"
    return ""


def _read_problem(directions: DirectionSet) -> str:
    if directions.reads is None:
        return ""
    responses = (directions.reads.double() * directions.vectors.double()).sum(-1)
    odd = ((responses - 1).abs() > _READ_TOLERANCE) & (directions.weights != 0) & directions.vectors.any(-1)
    if not bool(odd.any()):
        return ""
    position, index = odd.nonzero()[0].tolist()
    return f"a read vector at position {position} reads {float(responses[position, index]):.3g} instead of 1"


def _projection_problem(projections: Sequence[Tensor], positions: int) -> str:
    fits = all(t.ndim == 2 and t.shape[1] == positions and len(t) and t.is_floating_point() for t in projections)
    if not fits:
        return f"its projections do not have the shape (prompts, {positions})"
    return "" if all(bool(t.isfinite().all()) for t in projections) else "its projections are not finite"


def content_hash(directions: DirectionSet) -> str:
    """SHA-256 over everything of a set that an edit depends on: not its quality, its method or where it comes from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(directions.tensors().items()):
        if name != "quality":
            digest.update(f"{name} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def summed(files: Sequence[DirectionFile], weights: Sequence[float] = ()) -> DirectionSet:
    """The directions of several files as one set, see `addition.added`; those of one file as they are, if unweighted.

    The provenance lists the files' own.

    Raises:
        UserError: The files are for models of different shapes, or a weight cannot be used.
    """
    for other in files[1:]:
        require_same_shape(files[0].directions, other.directions, (files[0].name, other.name))
    if len(files) == 1 and not weights:
        return files[0].directions
    total = added([file.directions for file in files], weights)
    parts = [
        {
            "file": file.name,
            "weight": weight,
            "method": file.directions.method,
            "content": content_hash(file.directions),
            "provenance": dict(file.directions.provenance),
        }
        for file, weight in zip(files, weights or [1.0] * len(files), strict=True)
    ]
    provenance: dict[str, Any] = {"sum_of": parts, **created_now()}
    # What all of them have in common is true of the sum as well.
    for fact in ("model", "model_fingerprint", "hidden_size", "layer_count"):
        values = [part.directions.provenance.get(fact) for part in files]
        if values[0] is not None and all(value == values[0] for value in values):
            provenance[fact] = values[0]
    return replace(total, provenance=provenance)
