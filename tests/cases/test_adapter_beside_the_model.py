"""Wrong: a model with an adapter beside its weights is searched, and saving it ends as a mistake in Heretic.

Right: the adapter is merged when the model is loaded. The kind: tests/unit/models/test_adapters.py.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tests.cases.conftest import Run

from heretic.models.demo import DEMO_MODEL_FOLDER

RANK = 2
ADAPTER = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "model",
    "r": RANK,
    "lora_alpha": RANK,
    "target_modules": ["q_proj"],
}


def test_an_adapter_of_modules_that_are_not_edited(run: Run, tmp_path: Path) -> None:
    model = shutil.copytree(DEMO_MODEL_FOLDER, tmp_path / "model")
    torch.manual_seed(0)
    factors, expected = {}, {}
    for name, weight in load_file(model / "model.safetensors").items():
        if name.endswith("q_proj.weight"):
            path = "base_model.model." + name.removesuffix(".weight")
            first, second = torch.randn(RANK, weight.shape[1]) * 0.1, torch.randn(weight.shape[0], RANK) * 0.1
            factors |= {f"{path}.lora_A.weight": first, f"{path}.lora_B.weight": second}
            expected[name] = weight + second @ first
    save_file(factors, model / "adapter_model.safetensors", metadata={"format": "pt"})
    (model / "adapter_config.json").write_text(json.dumps(ADAPTER), encoding="utf-8")
    result = run("--behavior", "demo", model="model")
    result.assert_done()
    assert "an adapter was merged" in result.output
    saved = load_file(tmp_path / "out" / "model.safetensors")
    torch.testing.assert_close({name: saved[name] for name in expected}, expected)
    assert not list((tmp_path / "out").glob("adapter*"))
