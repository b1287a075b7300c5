"""Directions as a control vector and back; repeng's own reader and model add the same to the same layers."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from tests.models.pico import build_pico
from tests.unit.directions.direction_sets import LAYERS, WIDTH, random_set
from tests.unit.export.other_programs import install_python, run

from heretic.common.errors import UserError
from heretic.directions.control_vectors import read_control_vector, write_control_vector
from heretic.directions.files import read_direction_file

WEIGHTED = replace(random_set(1), weights=torch.tensor([[1.0], [0.5], [1.0], [0.25]]))


def test_every_layer_but_the_first_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "d.gguf"
    write_control_vector(path, WEIGHTED)
    found = read_direction_file(path).directions
    assert found.vectors.shape == WEIGHTED.vectors.shape
    torch.testing.assert_close(found.vectors[2:], WEIGHTED.vectors[2:])
    torch.testing.assert_close(found.weights[2:], WEIGHTED.weights[2:])
    # llama.cpp has no vector behind layer 0.
    assert not found.weights[:2].any()


def test_names_and_numbers_are_those_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "d.gguf"
    write_control_vector(path, WEIGHTED, "llama")
    reader = GGUFReader(path)
    assert {tensor.name for tensor in reader.tensors} == {"direction.1", "direction.2"}
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "controlvector"
    assert (fields["controlvector.model_hint"], fields["controlvector.layer_count"]) == ("llama", 2)


def test_what_a_control_vector_cannot_hold_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one direction a layer, and here are 2"):
        write_control_vector(tmp_path / "d.gguf", random_set(0, k=2))
    with pytest.raises(UserError, match="second layer"):
        write_control_vector(tmp_path / "d.gguf", random_set(0, layers=1))
    assert os.listdir(tmp_path) == []


def written(path: Path, architecture: str, tensors: dict[str, torch.Tensor]) -> Path:
    writer = GGUFWriter(path, architecture)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "tensors", "expected"),
    [
        ("llama", {"direction.1": torch.ones(4)}, "holds a model"),
        ("controlvector", {"other": torch.ones(4)}, "no vectors named"),
        ("controlvector", {"direction.x": torch.ones(4)}, "no control vector"),
        ("controlvector", {"direction.-1": torch.ones(4)}, "a layer -1"),
        ("controlvector", {"direction.100000": torch.ones(4)}, "a layer 100000"),
        ("controlvector", {"direction.1": torch.ones(4), "direction.2": torch.ones(5)}, "one width"),
        ("controlvector", {"direction.1": torch.ones(4).half()}, "float32"),
        ("controlvector", {"direction.1": torch.full((4,), torch.nan)}, "not finite"),
        ("controlvector", {"direction.1": torch.zeros(4)}, "zero"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_refused_in_a_sentence(
    tmp_path: Path, architecture: str, tensors: dict[str, torch.Tensor], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        read_direction_file(written(tmp_path / "d.gguf", architecture, tensors))


def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "d.gguf"
    write_control_vector(path, WEIGHTED)
    whole = path.read_bytes()
    for length in (0, 3, 20, 60, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="no control vector"):
            read_control_vector(path)


_REPENG = """
import json, sys, numpy, torch

# repeng 0.4.0 names a type in an annotation that NumPy 2 has not any more.
numpy.float_ = numpy.float64
from transformers import AutoModelForCausalLM
from repeng import ControlModel, ControlVector

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
vector = ControlVector.import_gguf(sys.argv[2])
ids = torch.tensor([[3, 5, 7]])
entering = {}
for name, module in {1: model.model.layers[1], 2: model.model.layers[2], "norm": model.model.norm}.items():
    module.register_forward_pre_hook(lambda _module, inputs, name=name: entering.update({name: inputs[0][0, -1]}))
model(ids)
plain = dict(entering)
wrapped = ControlModel(model, [1, 2])
found = {}
for layer, behind in {1: 2, 2: "norm"}.items():
    wrapped.reset()
    wrapped.set_control(ControlVector(vector.model_type, {1: 0 * vector.directions[1], 2: 0 * vector.directions[2],
        layer: vector.directions[layer]}), 3.0)
    wrapped(ids)
    # Nothing has moved before the layer that the vector stands behind.
    assert torch.equal(entering[layer], plain[layer])
    found[layer] = ((entering[behind] - plain[behind]) / 3.0).tolist()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_repeng_reads_the_file_and_adds_a_layers_vector_behind_it(tmp_path: Path) -> None:
    install_python(tmp_path / "programs", "repeng==0.4.0")
    model = build_pico("llama").float().eval()
    model.save_pretrained(tmp_path / "model")
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    assert layers == LAYERS, "the directions below are for as many layers"
    directions = random_set(1, layers=layers, width=width)
    write_control_vector(tmp_path / "d.gguf", directions, model.config.model_type)
    (tmp_path / "read.py").write_text(_REPENG, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "programs")}
    arguments = [str(tmp_path / name) for name in ("read.py", "model", "d.gguf")]
    printed = run(tmp_path, sys.executable, *arguments, environment=environment)
    found = json.loads(printed.splitlines()[-1])
    assert width != WIDTH
    for layer in (1, 2):
        torch.testing.assert_close(torch.tensor(found[str(layer)]), directions.vectors[layer + 1, 0], atol=1e-4, rtol=0)
