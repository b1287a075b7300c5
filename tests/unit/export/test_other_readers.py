"""Another transformers and mlx-lm compute from a saved folder, to the last bit, what they compute from its base.

Each run has a damaged folder in it, which must be seen to differ: a comparison that sees nothing shows nothing.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.models.hub_style import HUB_CONFIGURATIONS
from tests.unit.export.other_programs import install_python, run, save_beside_base, write_damaged

from heretic.export.content import ExportContent

TRANSFORMERS = ("transformers==4.57.6", "huggingface-hub<1", "tokenizers>=0.22,<0.23")
MLX = ("mlx-lm==0.32.2", "mlx==0.32.4", "mlx-cpu==0.32.4")
OF_TRANSFORMERS = """
import torch, transformers
transformers.logging.set_verbosity_error()
def logits_and_ids(folder, tokens):
    nested = "vision_config" in json.loads((folder / "config.json").read_text())
    name = "AutoModelForImageTextToText" if nested else "AutoModelForCausalLM"
    model = getattr(transformers, name).from_pretrained(folder, torch_dtype="auto").float().eval()
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor(tokens)).logits
    return logits.numpy(), transformers.AutoTokenizer.from_pretrained(folder)("hello").input_ids
version = transformers.__version__
"""
OF_MLX = """
import mlx.core, mlx_lm
def logits_and_ids(folder, tokens):
    model, tokenizer = mlx_lm.load(str(folder))
    model.set_dtype(mlx.core.float32)
    return numpy.array(model(mlx.core.array(tokens))), tokenizer.encode("hello")
version = mlx_lm.__version__
"""
READER = """
import json, sys
from pathlib import Path
import numpy
{reading}
tokens = numpy.random.default_rng(3).integers(0, 256, (2, 200)).tolist()
differences = {{}}
for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
    (base, ids), (saved, ids_of_saved) = (logits_and_ids(folder / name, tokens) for name in ("base", "saved"))
    assert ids and ids == ids_of_saved and numpy.isfinite(base).all() and base.std() > 0.01
    differences[folder.name] = float(abs(base - saved).max())
print(json.dumps([version, differences]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "reading"),
    [
        pytest.param(TRANSFORMERS, OF_TRANSFORMERS, id="transformers-4.57"),
        pytest.param(
            MLX,
            OF_MLX,
            id="mlx-lm",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="mlx computes on the CPU on Linux"),
        ),
    ],
)
def test_another_reader_computes_the_same(
    packages: tuple[str, ...], reading: str, content: ExportContent, tmp_path: Path
) -> None:
    libraries, models = tmp_path / "libraries", tmp_path / "models"
    install_python(libraries, *packages)
    for kind in HUB_CONFIGURATIONS:
        save_beside_base(kind, models / kind, content)
    damaged = write_damaged(models, "llama3")
    # Without mlx's compiler, which calls one for C++.
    environment = {**os.environ, "PYTHONPATH": str(libraries), "HF_HUB_OFFLINE": "1", "MLX_DISABLE_COMPILE": "1"}
    output = run(tmp_path, sys.executable, "-c", READER.format(reading=reading), str(models), environment=environment)
    version, differences = json.loads(output.splitlines()[-1])
    result: dict[str, Any] = dict(differences)
    assert version == packages[0].split("==")[1]
    assert result.pop(damaged) > 0.1
    assert result == dict.fromkeys(HUB_CONFIGURATIONS, 0.0)
