"""`heretic plan`: what it reads of a model, and when it says that a model does not fit."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from tests.models.pico import build_pico

from heretic.commands import plan
from heretic.common.errors import ConfigurationError, ModelError
from heretic.config import Settings
from heretic.interface.formatting import dollars, duration
from heretic.interface.printer import Printer
from heretic.models import host_memory
from heretic.models.cost import DEVICES, Shape, TrialWork, trial_cost
from heretic.models.footprint import PROGRAM, Footprint, Work, footprint_of, needs
from heretic.models.location import locate
from heretic.models.weight_headers import tensors_of_model


def planned(*argv: str) -> tuple[int, str]:
    file = io.StringIO()
    return plan.COMMAND(list(argv), Printer(Console(file=file, width=200))), file.getvalue()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of 400 MB in float32 by their header; half of it in the middle of no vocabulary."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    configuration = {
        "hidden_size": 1000,
        "intermediate_size": 4000,
        "vocab_size": 500,
        "num_hidden_layers": 2,
        "num_attention_heads": 10,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(configuration))
    table = {
        "embed.weight": {"dtype": "F32", "shape": [500, 1000], "data_offsets": [0, 0]},
        "mlp.down_proj.weight": {"dtype": "F32", "shape": [1000, 4000], "data_offsets": [0, 0]},
        "many.weight": {"dtype": "F32", "shape": [95_500, 1000], "data_offsets": [0, 0]},
    }
    header = json.dumps(table).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(host_memory, "free_host_memory", lambda: count)


def test_what_fits_is_said_with_its_steps(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10**10)
    code, text = planned(str(model))
    assert code == 0
    assert "100 M parameters, 400.0 MB" in text
    assert all(step in text for step in ("Loading", "Refinement", "Search", "Saving"))


@pytest.mark.parametrize(
    ("room", "advice"),
    [(250_000_000, "bfloat16"), (150_000_000, "bnb_8bit"), (80_000_000, "bnb_4bit"), (1_000_000, "smaller model")],
)
def test_what_does_not_fit_names_what_would(
    model: Path, monkeypatch: pytest.MonkeyPatch, room: int, advice: str
) -> None:
    free(monkeypatch, room)
    code, text = planned("--model", str(model))
    assert code == 1
    assert advice in text


def test_the_run_s_options_count(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 250_000_000)
    assert planned(str(model), "--dtypes", '["bfloat16"]')[0] == 0
    assert planned(str(model), "--quantization", "bnb_4bit")[0] == 0
    with pytest.raises(ConfigurationError):
        planned(str(model), "--quantization", "bnb_5bit")
    with pytest.raises(ConfigurationError):
        planned(str(model), "--model", str(model))
    with pytest.raises(ConfigurationError):
        planned()


def test_workers_are_fitted_to_the_gpus_that_are_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 10**10)
    _code, text = planned(str(model), "--gpus", "4x1.5GB")
    # 0.6 GB of the program, 0.4 of weights, 0.4 of keys and values, and predictions.
    assert "about 1.4 GB each; 4 x 1.5 GB: 2 workers of 2 GPUs" in text
    assert "up to 8 workers, 4 on each" in planned(str(model), "--gpus", "2x7GB")[1]
    with pytest.raises(ConfigurationError, match="4x24GB"):
        planned(str(model), "--gpus", "four")


def test_time_and_money_of_kinds_of_gpus_are_estimated(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker on each GPU; twice the GPUs take half the time, and cost the same where they cost twice as much."""
    free(monkeypatch, 10**10)

    def row(*argv: str) -> str:
        lines = planned(str(model), "--n-trials", "20000", *argv)[1].splitlines()
        return next((line for line in lines if line.startswith("Time")), "")

    one, two = row("--gpus", "h100", "--price-per-hour", "6"), row("--gpus", "2xH100", "--price-per-hour", "12")
    footprint = footprint_of(locate(str(model)), Settings(model=str(model)))
    shape, work = Shape.of(footprint.configuration), TrialWork(100, 30, 100, answer_tokens=30)
    seconds = 20_000 * trial_cost(shape, DEVICES["H100"], work).seconds
    assert f"about {duration(seconds)}, {dollars(seconds / 600)} for 20000 trials, 16 at once: an estimate" in one
    assert f"about {duration(seconds / 2)}, {dollars(seconds / 600)} for 20000 trials shared by 2 workers" in two
    assert "$" not in row("--gpus", "H100")
    assert not row("--gpus", "4x24GB")
    # The slower kind counts.
    assert row("--gpus", "H200,A6000") == row("--gpus", "2xA6000")


def test_an_estimate_needs_the_kind_of_gpu_and_the_sizes_of_the_model(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 10**10)
    with pytest.raises(ConfigurationError, match="--gpus H100"):
        planned(str(model), "--price-per-hour", "2")
    with pytest.raises(ConfigurationError, match="--gpus 2xH100"):
        planned(str(model), "--price-per-hour", "2", "--gpus", "24GB")
    with pytest.raises(ConfigurationError, match="dollars an hour"):
        planned(str(model), "--price-per-hour", "-2", "--gpus", "H100")
    file = model / "config.json"
    sizes = json.loads(file.read_text())
    del sizes["num_attention_heads"]
    file.write_text(json.dumps(sizes))
    assert "not estimated: config.json does not say num_attention_heads" in planned(str(model), "--gpus", "H100")[1]


def test_a_model_whose_size_nothing_tells_is_refused(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"no header at all")
    with pytest.raises(ModelError, match="cannot be read"):
        planned(str(model))
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        planned(str(model))


def test_sizes_are_those_of_the_model(tmp_path: Path) -> None:
    model = build_pico("llama")
    save_file({name: tensor.contiguous() for name, tensor in model.named_parameters()}, tmp_path / "model.safetensors")
    tensors = tensors_of_model(tmp_path, "pico")
    footprint = Footprint(tensors, model.config.to_dict(), Work("float32", 10, 1))
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert footprint.parameters == expected
    assert footprint.stored == footprint.weights == 4 * expected
    assert footprint.predictions == 10 * model.config.vocab_size * 4
    linear = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert footprint.ordered == max(weight.nbytes for weight in linear)
    tied = replace(footprint, configuration={**model.config.to_dict(), "tie_word_embeddings": True})
    inner = max(weight.nbytes for weight in linear if weight.shape[0] != model.config.vocab_size)
    assert tied.ordered == model.get_output_embeddings().weight.nbytes + inner


def test_what_only_saves_time_is_left_out_where_memory_is_short(model: Path) -> None:
    footprint = Footprint(
        tensors_of_model(model, "x"), json.loads((model / "config.json").read_text()), Work("float32", 1, 1)
    )
    rooms = 10**10, PROGRAM + footprint.weights + footprint.ordered
    rich, poor = (next(need for need in needs(footprint, room) if need.step == "search") for room in rooms)
    assert not rich.without
    assert poor.without
    assert rich.bytes - poor.bytes >= footprint.ordered > 0
    assert poor.bytes > PROGRAM + footprint.weights


def test_weights_in_the_form_of_another_program_are_not_counted(tmp_path: Path) -> None:
    """As repositories of Mistral have them: the same weights once more as consolidated.safetensors."""
    save_file({"model.weight": torch.zeros(3, 4)}, tmp_path / "model-00001-of-00001.safetensors")
    save_file({"weight": torch.zeros(300, 4)}, tmp_path / "consolidated.safetensors")
    index = {"weight_map": {"model.weight": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [tensor.numbers for tensor in tensors_of_model(tmp_path, "x")] == [12]


@pytest.mark.parametrize("shard", ["../outside.safetensors", "pipe.safetensors"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_an_index_leads_neither_outside_nor_to_what_is_no_file(tmp_path: Path, shard: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.zeros(2)}, tmp_path / "outside.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ModelError, match=r"outside of its folder|no ordinary file"):
        tensors_of_model(folder, "x")
