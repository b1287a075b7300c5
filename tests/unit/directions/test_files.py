"""Direction files come back as they were; whatever else a file may hold is refused in one sentence."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.directions.direction_sets import LAYERS, random_set

from heretic.common.errors import UserError
from heretic.directions.files import content_hash, read_direction_file, summed, write_direction_file
from heretic.directions.projections import Projections
from heretic.directions.types import DirectionSet

PROJECTIONS = Projections(torch.rand(5, LAYERS + 1), torch.rand(3, LAYERS + 1))


def write(path: Path, directions: DirectionSet | None = None, projections: Projections | None = None) -> Path:
    write_direction_file(path, random_set() if directions is None else directions, projections)
    return path


def test_round_trip_with_everything(tmp_path: Path) -> None:
    original = random_set(0, k=2, provenance={"model": "demo"})
    original = replace(original, reads=original.vectors)
    found = read_direction_file(write(tmp_path / "d.safetensors", original, PROJECTIONS))
    for name, tensor in original.tensors().items():
        assert torch.equal(found.directions.tensors()[name], tensor)
    assert (found.directions.method, found.directions.provenance) == (original.method, original.provenance)
    assert found.projections is not None
    assert torch.equal(found.projections.target, PROJECTIONS.target)
    assert torch.equal(found.projections.baseline, PROJECTIONS.baseline)
    assert found.name == "d.safetensors"
    # What holds projections is a direction set all the same.
    assert DirectionSet.load(tmp_path / "d.safetensors").method == original.method
    assert os.listdir(tmp_path) == ["d.safetensors"]


def test_a_file_holds_no_secret_of_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a token of the hub 4711")
    provenance = {
        "model": "/models/a token of the hub 4711",
        "storage": "postgresql://jane:Storage-Passw0rd@host/db",
        "sum_of": [{"file": "hf_0123456789abcdefghij.safetensors"}],
    }
    path = write(tmp_path / "d.safetensors", random_set(0, k=1, provenance=provenance))
    content = path.read_bytes()
    assert not [word for word in (b"4711", b"Passw0rd", b"hf_0123456789") if word in content]
    assert read_direction_file(path).directions.provenance["model"] == "/models/***"


def test_a_provenance_of_bottomless_depth_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    tensors = random_set(0, k=1).tensors()
    save_file(dict(tensors), path, metadata={"method": "mean", "provenance": '{"a":' * 100_000})
    with pytest.raises(UserError, match="is not a direction file"):
        read_direction_file(path)


def test_projections_are_optional(tmp_path: Path) -> None:
    assert read_direction_file(write(tmp_path / "d.safetensors")).projections is None


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    found = random_set(0, k=1)
    path = write(tmp_path / "d.safetensors", replace(found, vectors=found.vectors.half()))
    assert read_direction_file(path).directions.vectors.dtype == torch.float32


def test_what_cannot_be_written_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "d.safetensors")
    before = path.read_bytes()

    def fails(_tensors: object, target: Path, metadata: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("heretic.directions.types.save_file", fails)
    with pytest.raises(UserError, match="cannot be written"):
        write(path, random_set(1))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["d.safetensors"]


def changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """Write a sound file with one tensor changed."""

    def rewrite(path: Path) -> None:
        write(path, random_set(0, k=2), PROJECTIONS)
        tensors = load_file(path)
        tensors[name] = change(tensors[name].clone()).contiguous()
        save_file(tensors, path, metadata={"method": "mean", "provenance": "{}"})

    return rewrite


def at(position: int, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor[position] = value
        return tensor

    return change


def skewed(vectors: torch.Tensor) -> torch.Tensor:
    vectors[3, 1] = vectors[3, 0]
    return vectors


def truncated(path: Path) -> None:
    write(path)
    path.write_bytes(path.read_bytes()[:-20])


def model_weights(path: Path) -> None:
    save_file({"lm_head.weight": torch.ones(2, 3)}, path, metadata={"format": "pt"})


def provenance_that_is_a_list(path: Path) -> None:
    save_file(random_set().tensors(), path, metadata={"method": "mean", "provenance": json.dumps([1])})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (changed("vectors", at(2, float("nan"))), "vectors are not finite at position 2"),
        (changed("weights", at(1, float("inf"))), "weights are not finite at position 1"),
        (changed("vectors", at(2, 0.0)), "the vector at position 2 is zero"),
        (changed("vectors", torch.zeros_like), "all its vectors are zero"),
        (changed("vectors", lambda vectors: vectors * 2), "has the length 2 instead of 1"),
        (changed("vectors", skewed), "position 3 are not orthogonal"),
        (
            changed("vectors", lambda vectors: vectors[0]),
            r"shape \(2, 8\) instead of \(layers \+ 1, directions, width\)",
        ),
        (changed("vectors", lambda vectors: vectors[:3]), r"weights have the shape \(4, 2\) instead of \(3, 2\)"),
        (changed("quality", lambda quality: quality[:2]), r"quality have the shape \(2,\) instead of \(4,\)"),
        (changed("weights", lambda weights: weights.long()), "weights are no floating-point numbers"),
        (changed("target_projections", lambda own: own[:, :2]), r"projections do not have the shape \(prompts, 4\)"),
        (changed("baseline_projections", at(0, float("nan"))), "projections are not finite"),
        (truncated, "is not a direction file"),
        (model_weights, "is not a direction file"),
        (provenance_that_is_a_list, "is not a direction file"),
        (lambda path: path.write_text("{}"), "is not a direction file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "There is no file"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "bad.safetensors"
    spoil(path)
    with pytest.raises(UserError, match=words) as caught:
        read_direction_file(path)
    assert "bad.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_read_vectors_have_to_fit_their_directions(tmp_path: Path) -> None:
    sound = random_set(0)
    wrong = replace(sound, reads=sound.vectors * 0.5)
    with pytest.raises(UserError, match=r"a read vector at position 1 reads 0\.5 instead of 1"):
        read_direction_file(write(tmp_path / "d.safetensors", wrong))


@pytest.mark.parametrize(
    "change",
    [
        {"vectors": -random_set(0).vectors},
        {"weights": torch.full((LAYERS + 1, 1), 0.5)},
        {"reads": random_set(0).vectors},
    ],
    ids=["vectors", "weights", "reads"],
)
def test_the_content_is_what_an_edit_depends_on(change: dict[str, torch.Tensor]) -> None:
    assert content_hash(random_set(0)) != content_hash(random_set(0, **change))


def test_the_content_is_not_where_it_comes_from() -> None:
    found = random_set(0)
    elsewhere = replace(found, method="other", provenance={"a": 1}, quality=found.quality + 1)
    assert content_hash(elsewhere) == content_hash(found)


def test_a_sum_says_what_it_is_made_of(tmp_path: Path) -> None:
    shared = {"model": "demo", "model_fingerprint": "abc"}
    files = [
        read_direction_file(write(tmp_path / f"{seed}.safetensors", random_set(seed, provenance={**shared, "n": seed})))
        for seed in (0, 1)
    ]
    total = summed(files, [1.0, 0.5])
    assert total.provenance["model_fingerprint"] == "abc"
    assert "n" not in total.provenance
    parts = total.provenance["sum_of"]
    assert [(part["file"], part["weight"], part["provenance"]["n"]) for part in parts] == [
        ("0.safetensors", 1.0, 0),
        ("1.safetensors", 0.5, 1),
    ]
    assert parts[0]["content"] == content_hash(files[0].directions)
    json.dumps(total.provenance)
    assert summed(files[:1]) is files[0].directions


def test_a_sum_of_two_models_names_neither(tmp_path: Path) -> None:
    files = [
        read_direction_file(
            write(tmp_path / f"{seed}.safetensors", random_set(seed, provenance={"model_fingerprint": str(seed)}))
        )
        for seed in (0, 1)
    ]
    assert "model_fingerprint" not in summed(files).provenance


def test_files_of_other_shapes_are_not_added(tmp_path: Path) -> None:
    files = [
        read_direction_file(write(tmp_path / f"{layers}.safetensors", random_set(0, layers=layers)))
        for layers in (3, 5)
    ]
    with pytest.raises(UserError, match=r"3\.safetensors is for a model of 3 layers .* 5\.safetensors"):
        summed(files)
