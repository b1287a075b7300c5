"""A saved direction file comes back as it was; any other file is refused in one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from heretic.common.errors import UserError
from heretic.directions.types import DirectionSet


def example() -> DirectionSet:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(4, 7, 2, generator=generator)).Q.contiguous().mT
    weights, quality = torch.rand(4, 2, generator=generator), torch.rand(4, generator=generator)
    return DirectionSet(vectors, weights, quality, "pca, projected", {"alpha": 0.5, "target_fingerprint": "abc"})


def test_round_trip(tmp_path: Path) -> None:
    directions = example()
    assert not directions.vectors.is_contiguous()
    path = tmp_path / "directions.safetensors"
    directions.save(path)
    loaded = DirectionSet.load(path)
    for name in ("vectors", "weights", "quality"):
        assert torch.equal(getattr(loaded, name), getattr(directions, name))
        assert getattr(loaded, name).dtype == torch.float32
    assert loaded.method == directions.method
    assert loaded.provenance == directions.provenance
    assert loaded.count_per_layer == 2


def test_read_sides_come_back_too(tmp_path: Path) -> None:
    directions = replace(example(), reads=torch.rand(4, 2, 7))
    directions.save(tmp_path / "directions.safetensors")
    loaded = DirectionSet.load(tmp_path / "directions.safetensors")
    assert loaded.reads is not None
    assert directions.reads is not None
    assert torch.equal(loaded.reads, directions.reads)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.safetensors cannot be written; check the folder"):
        example().save(tmp_path / "missing" / "x.safetensors")


def test_a_loaded_set_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "directions.safetensors"
    example().save(path)
    loaded = DirectionSet.load(path)
    path.write_bytes(b"")
    assert torch.equal(loaded.vectors, example().vectors)


def write_other_tensors(path: Path) -> None:
    save_file({"weight": torch.ones(2)}, path, metadata={"method": "mean", "provenance": "{}"})


def write_without_metadata(path: Path) -> None:
    save_file({name: torch.ones(2) for name in ("vectors", "weights", "quality")}, path)


def write_broken_provenance(path: Path) -> None:
    tensors = {name: torch.ones(2) for name in ("vectors", "weights", "quality")}
    save_file(tensors, path, metadata={"method": "mean", "provenance": "{"})


def write_missing_tensor(path: Path) -> None:
    save_file({"vectors": torch.ones(2)}, path, metadata={"method": "mean", "provenance": json.dumps({})})


@pytest.mark.parametrize(
    "write",
    [
        write_other_tensors,
        write_without_metadata,
        write_broken_provenance,
        write_missing_tensor,
        lambda path: path.write_text("not safetensors at all, but long enough for a header"),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        lambda path: None,
    ],
    ids=["other tensors", "no metadata", "broken provenance", "one tensor", "text", "empty", "folder", "missing"],
)
def test_another_file_is_refused(tmp_path: Path, write: object) -> None:
    path = tmp_path / "other.safetensors"
    write(path)  # type: ignore[operator]  # every one of them takes a path
    with pytest.raises(
        UserError, match=r"other\.safetensors is not a direction file; write one with --save-directions"
    ):
        DirectionSet.load(path)


def test_to_device_keeps_everything_else() -> None:
    directions = example()
    moved = directions.to(torch.device("meta"))
    assert moved.vectors.device.type == moved.weights.device.type == "meta"
    assert moved.quality is directions.quality
    assert (moved.method, moved.provenance) == (directions.method, directions.provenance)
