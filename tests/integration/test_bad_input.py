"""What cannot work ends with one sentence and the right code, and everything is left as it was."""

import json
import sqlite3
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.integration.command import QUICK_DEMO, QUICK_PICO, Command, saving_to
from tests.models.pico import VOCABULARY, pico_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

pytestmark = pytest.mark.integration


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_model_that_nobody_has(heretic: Command, folder: Path) -> None:
    before = names(folder)
    result = heretic(folder, "owner/unknown", *QUICK_PICO, *saving_to("out"))
    result.assert_one_sentence("owner/unknown is not in the local cache", "check the network")
    assert names(folder) == before


def test_weights_that_are_no_numbers(heretic: Command, folder: Path) -> None:
    path = folder / "pico" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"].fill_(float("nan"))
    save_file(tensors, path, metadata={"format": "pt"})
    before = names(folder)
    result = heretic(folder, "pico", *QUICK_PICO, *saving_to("out"))
    result.assert_one_sentence("pico works with no dtype", "float16: logits are not finite", "may be damaged")
    assert names(folder) == before


OWN_CODE = """
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        for layer in self.model.layers:
            layer.self_attn.o_proj = nn.Identity()
            layer.mlp = nn.Identity()
"""


def test_a_model_without_anything_to_edit(heretic: Command, folder: Path, tmp_path_factory) -> None:
    own = folder / "own"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, num_hidden_layers=2, **sizes))
    for layer in model.model.layers:
        layer.self_attn.o_proj = layer.mlp = torch.nn.Identity()
    model.save_pretrained(own)
    pico_tokenizer().save_pretrained(own)
    (own / "own.py").write_text(OWN_CODE, encoding="utf-8")
    content = json.loads((own / "config.json").read_text(encoding="utf-8"))
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (own / "config.json").write_text(json.dumps(content | {"model_type": "own", "auto_map": code}))

    before = names(folder)
    untrusted = heretic(folder, "own", *QUICK_PICO, *saving_to("out"))
    untrusted.assert_one_sentence("own Python code", "--trust-remote-code")
    # transformers copies the code of a model to a folder of its own before it is run.
    elsewhere = (
        f"import transformers.dynamic_module_utils as m; m.HF_MODULES_CACHE = {str(tmp_path_factory.mktemp('m'))!r}"
    )
    result = heretic(folder, "own", *QUICK_PICO, *saving_to("out"), "--trust-remote-code", before=elsewhere)
    result.assert_one_sentence("Layer 0", "nothing that can be edited", "self_attn.o_proj (Identity)", "families.py")
    assert names(folder) == before


def test_models_with_different_vocabularies(heretic: Command, folder: Path) -> None:
    before = names(folder)
    result = heretic(folder, *QUICK_DEMO, "--evaluate-model", "pico")
    result.assert_one_sentence("pico and demo have different vocabularies", "--model")
    assert names(folder) == before


def test_an_output_folder_below_a_file(heretic: Command, folder: Path) -> None:
    before = names(folder)
    result = heretic(folder, "pico", *QUICK_PICO, *saving_to("good.txt/out"))
    result.assert_one_sentence("good.txt is a file", "choose another path")
    # Before anything is loaded, let alone searched.
    assert "Loading" not in result.output
    assert names(folder) == before


def test_a_locked_study_and_what_it_holds(heretic: Command, folder: Path) -> None:
    study = ("--storage", "sqlite:///study.db?timeout=0.2")
    heretic(folder, "pico", *QUICK_PICO, *saving_to("first"), *study).assert_done()
    # Read before it is locked: closing any handle of a file gives up this process's locks on it.
    content = (folder / "study.db").read_bytes()
    connection = sqlite3.connect(folder / "study.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        result = heretic(folder, "pico", *QUICK_PICO, *saving_to("second"), *study)
    finally:
        connection.execute("ROLLBACK")
        connection.close()
    result.assert_one_sentence("study.db is locked by another process", "--storage")
    assert (folder / "study.db").read_bytes() == content
    assert not (folder / "second").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file sizes")
def test_a_file_that_may_not_grow_is_no_study(heretic: Command, folder: Path) -> None:
    small_files = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))"
    result = heretic(folder, "pico", *QUICK_PICO, *saving_to("out"), before=small_files)
    result.assert_one_sentence("heretic_study.db", "its disk or file system reports a fault")
    # What could not be written must not stand in the way afterwards.
    heretic(folder, "pico", *QUICK_PICO, *saving_to("out")).assert_done()


def test_a_disk_too_full_for_the_model(heretic: Command, folder: Path) -> None:
    little_space = "import shutil; u = shutil.disk_usage; shutil.disk_usage = lambda p: u(p)._replace(free=10**6)"
    early = heretic(folder, "pico", *QUICK_PICO, *saving_to("out"), before=little_space)
    early.assert_one_sentence("only 1.0 MB is free", "choose another path")

    fills_up = (
        "import errno, os\n"
        "def fsync(descriptor):\n"
        "    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "os.fsync = fsync\n"
    )
    late = heretic(folder, "pico", *QUICK_PICO, *saving_to("out"), before=fills_up)
    late.assert_one_sentence("The disk became full while saving", "out", "free some space", code=1)
    assert not {name for name in names(folder) if name == "out" or name.startswith(".")}

    again = heretic(folder, "pico", *QUICK_PICO, *saving_to("out"))
    again.assert_done()
    assert "0 trials to do" in again.output
