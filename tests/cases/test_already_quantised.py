"""Wrong: weights that are stored quantised are searched, and then no trial works, or none can be saved.

Right: they are dequantised when they are loaded and saved as ordinary ones, or refused before the search. The kind:
tests/unit/models/test_stored_forms.py.
"""

import json
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from tests.cases.conftest import Run

from heretic.models.demo import DEMO_MODEL_FOLDER

QUANTISE = """
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
AutoModelForCausalLM.from_pretrained("model", quantization_config=four, device_map="cpu").save_pretrained("model")
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo model."""
    return Path(shutil.copytree(DEMO_MODEL_FOLDER, tmp_path / "model"))


def test_weights_of_bitsandbytes(run: Run, tmp_path: Path, model: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="there are no bitsandbytes wheels for this system")
    result = run("--behavior", "demo", "--quantization", "bnb_4bit", model="model", before=QUANTISE)
    result.assert_done()
    assert "stored quantised" in result.output
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F32"}  # noqa: SIM118 - no mapping


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_weights_that_stay_quantised(run: Run, model: Path, method: str) -> None:
    path = model / "config.json"
    quantization = {"quant_method": method, "bits": 4, "group_size": 32}
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": quantization}))
    run("--behavior", "demo", model="model").assert_one_sentence(method, "model that it was made from")
