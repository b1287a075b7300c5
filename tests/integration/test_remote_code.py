"""A model that brings its own code: run when trusted, saved with it, loaded again from there."""

import json
from pathlib import Path

import pytest
import torch
from tests.integration.command import QUICK_PICO, Command, saving_to, write_prompts
from tests.models.pico import VOCABULARY, pico_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

pytestmark = pytest.mark.integration

OWN_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path("the code ran").touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    write_prompts(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    folder = tmp_path / "own"
    LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, num_hidden_layers=2, **sizes)).save_pretrained(folder)
    pico_tokenizer().save_pretrained(folder)
    (folder / "own.py").write_text(OWN_CODE, encoding="utf-8")
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps(content | {"model_type": "own", "auto_map": code}))
    return folder


def test_own_code_is_run_when_trusted_and_saved_with_the_model(
    heretic: Command, tmp_path: Path, own: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # transformers copies the code of a model to a folder of its own before it is run.
    elsewhere = (
        f"import transformers.dynamic_module_utils as m; m.HF_MODULES_CACHE = {str(tmp_path_factory.mktemp('m'))!r}"
    )
    marker = tmp_path / "the code ran"

    def run(model: str, target: str, *further: str):
        marker.unlink(missing_ok=True)
        study = ("--study-name", target)
        return heretic(tmp_path, model, *QUICK_PICO, *saving_to(target), *study, *further, before=elsewhere)

    run("own", "out").assert_one_sentence("own Python code", "--trust-remote-code")
    assert not marker.exists()
    run("own", "out", "--trust-remote-code").assert_done()
    assert marker.exists()
    assert (tmp_path / "out" / "own.py").read_text(encoding="utf-8") == OWN_CODE
    manifest = json.loads((tmp_path / "out" / "heretic_metadata.json").read_text(encoding="utf-8"))
    assert "own.py" in manifest["files"]
    heretic(tmp_path, "verify", "out").assert_done()

    run("out", "again").assert_one_sentence("own Python code", "--trust-remote-code")
    assert not marker.exists()
    run("out", "again", "--trust-remote-code").assert_done()
    assert marker.exists()
    # What was changed behind the manifest's back is not run, trusted or not.
    (tmp_path / "out" / "own.py").write_text(OWN_CODE + "# changed\n", encoding="utf-8")
    run("out", "third", "--trust-remote-code").assert_one_sentence("own.py", "heretic verify out")
    assert not marker.exists()
