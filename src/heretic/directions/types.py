"""ResidualStatistics and DirectionSet: the frozen values on both sides of an extractor."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from heretic.common.errors import UserError
from heretic.common.file_systems import replacing
from heretic.common.redaction import without_secrets


@dataclass(frozen=True, slots=True)
class ResidualStatistics:
    """Streamed moments of the last prompt token's residuals, one per residual position (0 = embeddings).

    Attributes:
        mean: [L+1, D] fp32.
        count: Number of prompts.
        covariance: [L+1, D, D] fp32, mean of (x - mean)(x - mean)^T, or None where no extractor asked for it.
        fingerprint: Fingerprint of the prompts.
        residuals: [count, L+1, D] fp32 in host memory, or None where no extractor asked for single prompts.
    """

    mean: Tensor
    count: int
    covariance: Tensor | None
    fingerprint: str
    residuals: Tensor | None = None


@dataclass(frozen=True, slots=True)
class DirectionSet:
    """Unit directions of a behaviour for every residual position.

    Attributes:
        vectors: [L+1, k, D] fp32, orthonormal over k.
        weights: [L+1, k] fp32, relative strength of each direction, at most 1.
        quality: [L+1] fp32, how well the classes separate along the first direction (higher is better).
        method: Name of the extractor and its transforms, e.g. ``mean, projected``.
        provenance: JSON-ready facts: prompt fingerprints, counts, options.
        reads: [L+1, k, D] fp32, what reads each direction (a probe's weights, say), or None where the directions read
            themselves. `vectors` is what is written. Scaled so that reads_i^T vectors_i = 1: strength 1 removes.
    """

    vectors: Tensor
    weights: Tensor
    quality: Tensor
    method: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    reads: Tensor | None = None

    @property
    def count_per_layer(self) -> int:
        """Number of directions at every position, k."""
        return int(self.vectors.shape[1])

    def to(self, device: torch.device) -> "DirectionSet":
        """The same directions on another device."""
        reads = None if self.reads is None else self.reads.to(device)
        return replace(self, vectors=self.vectors.to(device), weights=self.weights.to(device), reads=reads)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the set by the name of its field; optional ones only where there are any."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def save(self, path: Path, further: Mapping[str, Tensor] | None = None) -> None:
        """Write a safetensors file; method and provenance, without secrets, go into its metadata.

        The file appears under its name only when it is whole: an earlier one is kept where writing fails.

        Args:
            path: The file.
            further: Tensors that stand in the file besides the set's own.

        Raises:
            UserError: The file cannot be written.
        """
        metadata = {"method": self.method, "provenance": json.dumps(without_secrets(dict(self.provenance)))}
        tensors = {**self.tensors(), **(further or {})}
        # Clones: safetensors refuses tensors that share memory, as read vectors and vectors may.
        clones = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
        try:
            with replacing(path) as unfinished:
                save_file(clones, unfinished, metadata=metadata)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be written; check the folder and its permissions.") from error

    @classmethod
    def load(cls, path: Path) -> "DirectionSet":
        """The inverse of `save`; tensors that are no field of the set are left out.

        Raises:
            UserError: The file cannot be read, or lacks what a direction file holds.
        """
        try:
            # Clones: what safetensors returns is a view of the file, which may be written again.
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                optional = {entry.name for entry in fields(cls)} - {"method", "provenance"}
                names = {"vectors", "weights", "quality"} | (optional & set(file.keys()))
                tensors = {name: file.get_tensor(name).clone() for name in names}
            provenance = json.loads(metadata["provenance"])
            if not isinstance(provenance, dict):
                raise ValueError("provenance is no table")
            return cls(**tensors, method=metadata["method"], provenance=provenance)
        except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is not a direction file; write one with --save-directions.") from error
