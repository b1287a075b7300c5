"""Weights that are stored quantised become ordinary ones, or are refused before anything is searched."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.models.pico import PICO_FAMILIES, build_family, pico_token_ids, pico_tokenizer
from tests.unit.models.model_folder import LoadSettings, save_pico

from heretic.common.errors import ModelError
from heretic.models import stored_forms
from heretic.models.layout import find_layout
from heretic.models.loader import load_model
from heretic.models.stored_forms import StoredForm, check_form, loading_arguments, stored_form


def with_configuration(folder: Path, **quantization: Any) -> str:
    """A pico model whose configuration says that it is quantised."""
    save_pico(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": quantization}))
    return str(folder)


@pytest.mark.parametrize("method", ["gptq", "awq", "hqq", "torchao", "quanto", "another"])
@pytest.mark.parametrize("quantization", ["none", "bnb_4bit"])
def test_what_transformers_cannot_undo_is_refused_at_once(tmp_path: Path, method: str, quantization: str) -> None:
    name = with_configuration(tmp_path / "model", quant_method=method, bits=4, group_size=32)
    with pytest.raises(ModelError, match=f"{method}.*made from.*bnb_4bit"):
        load_model(name, LoadSettings(quantization=quantization))


@pytest.mark.parametrize("method", ["fp8", "mxfp4"])
def test_what_transformers_undoes_while_loading_is_asked_for(method: str) -> None:
    form = stored_form(SimpleNamespace(quantization_config={"quant_method": method}))
    assert form == StoredForm(method)
    check_form("model", form, "none")
    assert loading_arguments(form, "none")["quantization_config"].dequantize is True
    with pytest.raises(ModelError, match="use --quantization none"):
        check_form("model", form, "bnb_4bit")


def test_a_version_of_transformers_that_does_not_undo_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_forms, "transformers", SimpleNamespace(__version__="5.0", Mxfp4Config=lambda: None))
    with pytest.raises(ModelError, match="cannot undo"):
        check_form("model", StoredForm("mxfp4"), "none")


def test_ordinary_weights_have_no_form() -> None:
    assert stored_form(transformers.LlamaConfig()) is None


SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


@pytest.fixture(params=["bnb_4bit", "bnb_8bit"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, Any]:
    """Folder of a model that bitsandbytes has quantised, how, and the model as it computes."""
    pytest.importorskip("bitsandbytes", reason="there are no bitsandbytes wheels for this system")
    family = PICO_FAMILIES["qwen2"]
    build_family(replace(family, options={**family.options, **SIZES})).save_pretrained(tmp_path / "plain")
    four: dict[str, Any] = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
    options = {"load_in_4bit": True, **four} if request.param == "bnb_4bit" else {"load_in_8bit": True}
    configuration = transformers.BitsAndBytesConfig(**options)  # type: ignore[no-untyped-call]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "plain", quantization_config=configuration, device_map="cpu"
    )
    model.save_pretrained(tmp_path / "stored")
    pico_tokenizer().save_pretrained(tmp_path / "stored")
    return str(tmp_path / "stored"), request.param, model


def assert_saved_as_they_are(loaded: Any, folder: Path) -> None:
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    again = load_model(str(folder), LoadSettings())
    assert again.remark == ""
    tensors = again.model.state_dict()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in loaded.model.state_dict().items())


def test_weights_of_fp8_become_ordinary_ones(tmp_path: Path) -> None:
    block = 4
    name = with_configuration(tmp_path / "model", quant_method="fp8", weight_block_size=[block, block])
    file = tmp_path / "model" / "model.safetensors"
    weights, stored = load_file(file), {}
    for key, weight in weights.items():
        if key.endswith("proj.weight"):
            blocks = weight.unflatten(1, (-1, block)).unflatten(0, (-1, block))
            scales = blocks.abs().amax((1, 3), keepdim=True) / torch.finfo(torch.float8_e4m3fn).max
            stored[key] = (blocks / scales).reshape(weight.shape).to(torch.float8_e4m3fn)
            stored[f"{key}_scale_inv"] = scales[:, 0, :, 0].contiguous()
        else:
            stored[key] = weight
    save_file(stored, file, metadata={"format": "pt"})
    loaded = load_model(name, LoadSettings())
    assert "fp8" in loaded.remark
    for key, tensor in loaded.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[key], rtol=2**-4, atol=2**-8)
    assert_saved_as_they_are(loaded, tmp_path / "saved")


def test_a_form_that_needs_a_package_is_told_before_the_search(tmp_path: Path) -> None:
    if importlib.util.find_spec("compressed_tensors") is not None:
        pytest.skip("compressed-tensors is installed")
    name = with_configuration(tmp_path / "model", quant_method="compressed-tensors", format="pack-quantized")
    with pytest.raises(ModelError, match=r"compressed-tensors.*install"):
        load_model(name, LoadSettings())


def test_weights_of_bitsandbytes_become_ordinary_ones(stored: tuple[str, str, Any], tmp_path: Path) -> None:
    name, setting, quantised = stored
    loaded = load_model(name, LoadSettings())
    assert (loaded.quantization, loaded.model.dtype) == ("none", torch.float32)
    assert setting[4] + " bit" in loaded.remark
    assert find_layout(loaded.model).uneditable == ()
    ids = pico_token_ids()
    computed = loaded.model(ids).logits
    # 8 bit rounds activations as well.
    tolerance = 1e-4 if setting == "bnb_4bit" else 0.1
    torch.testing.assert_close(computed, quantised(ids).logits.float(), rtol=tolerance, atol=tolerance)
    assert_saved_as_they_are(loaded, tmp_path / "saved")


def test_weights_of_bitsandbytes_may_be_searched_as_they_are(stored: tuple[str, str, Any]) -> None:
    name, setting, _ = stored
    loaded = load_model(name, LoadSettings(quantization=setting))
    assert loaded.quantization == setting
    assert loaded.adapter_obstacle is not None
    other = {"bnb_4bit": "bnb_8bit", "bnb_8bit": "bnb_4bit"}[setting]
    with pytest.raises(ModelError, match=f"use --quantization none.*--quantization {other}"):
        load_model(name, LoadSettings(quantization=other))
