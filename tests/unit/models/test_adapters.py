"""A model with an adapter is the model that PEFT would make of both, and an ordinary one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.pico import pico_token_ids, pico_tokenizer
from tests.unit.models.model_folder import LoadSettings, save_pico

from heretic.common.errors import ModelError
from heretic.models.loader import load_model
from heretic.models.location import locate

RANK, SCALE = 2, 3.0


def write_adapter(folder: Path, base: Path, name: str | None = None, **changes: Any) -> dict[str, torch.Tensor]:
    """A LoRA adapter of the query projections; by weight what it adds."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    factors, added = {}, {}
    for key, weight in load_file(base / "model.safetensors").items():
        if key.endswith("q_proj.weight"):
            first, second = torch.randn(RANK, weight.shape[1]), torch.randn(weight.shape[0], RANK)
            path = "base_model.model." + key.removesuffix(".weight")
            factors |= {f"{path}.lora_A.weight": first, f"{path}.lora_B.weight": second}
            added[key] = SCALE * second @ first
    save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    configuration = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base) if name is None else name,
        "r": RANK,
        "lora_alpha": SCALE * RANK,
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(configuration | changes))
    return added


def assert_merged(loaded: Any, base: Path, added: dict[str, torch.Tensor]) -> None:
    before, after = load_file(base / "model.safetensors"), loaded.model.state_dict()
    assert added
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight + added.get(name, 0))
    assert not [name for name in after if "lora" in name]
    assert "adapter" in loaded.remark
    assert "adapter" not in load_model(str(base), LoadSettings()).remark


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    save_pico(folder)
    return folder


def test_an_adapter_in_a_folder_of_its_own(tmp_path: Path, base: Path) -> None:
    added = write_adapter(tmp_path / "lora", base)
    loaded = load_model(str(tmp_path / "lora"), LoadSettings())
    assert_merged(loaded, base, added)
    assert (loaded.name, loaded.source) == (str(tmp_path / "lora"), str(base))
    assert loaded.adapter_obstacle is not None


def test_an_adapter_beside_the_weights_leaves_a_model_that_can_be_saved(tmp_path: Path) -> None:
    plain, folder = tmp_path / "plain", tmp_path / "model"
    save_pico(plain)
    save_pico(folder)
    added = write_adapter(folder, plain, "someone/else")
    loaded = load_model(str(folder), LoadSettings())
    assert_merged(loaded, plain, added)
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"), LoadSettings())
    ids = pico_token_ids()
    assert torch.equal(again.model(ids).logits, loaded.model(ids).logits)


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"peft_type": "PROMPT_TUNING"}, {}),
        ({"peft_type": None}, {}),
        ({"target_modules": ["k_proj"]}, {}),
        ({"r": RANK + 1}, {}),
        ({}, {"quantization": "bnb_4bit"}),
    ],
    ids=["kind", "no kind", "other modules", "rank", "quantised"],
)
def test_an_adapter_that_cannot_be_merged_is_refused(
    tmp_path: Path, base: Path, changes: dict[str, Any], settings: dict[str, Any]
) -> None:
    write_adapter(tmp_path / "lora", base, **changes)
    with pytest.raises(ModelError, match="adapter"):
        load_model(str(tmp_path / "lora"), LoadSettings(**settings))


def test_where_the_model_of_an_adapter_is(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "elsewhere" / "lora"
    folder.parent.mkdir()

    def source(name: str, fallback: str | None = None) -> str:
        write_adapter(folder, base, name)
        return locate(str(folder), fallback).source

    assert source(str(base)) == str(base)
    assert source("base") == "base"
    assert source("someone/model") == "someone/model"
    for missing in ("no-such-model", "/no/such/model", ""):
        assert source(missing, str(base)) == str(base)
        with pytest.raises(ModelError, match="base_model_name_or_path"):
            source(missing)
    beside = tmp_path / "elsewhere" / "near"
    save_pico(beside)
    assert source("near") == str(beside)
    write_adapter(beside, base)
    with pytest.raises(ModelError, match="an adapter"):
        source("near")
    with pytest.raises(ModelError, match="an adapter"):
        source("lora")


def test_an_adapter_with_another_tokenizer_is_refused_and_one_with_the_same_is_not(tmp_path: Path, base: Path) -> None:
    folder = tmp_path / "lora"
    write_adapter(folder, base)
    tokenizer = pico_tokenizer()
    tokenizer.save_pretrained(folder)
    load_model(str(folder), LoadSettings())
    changes = {"chat_template": "{{ messages[0]['content'] }}", "eos_token": tokenizer.convert_ids_to_tokens(5)}
    for name, value in changes.items():
        other = pico_tokenizer()
        setattr(other, name, value)
        other.save_pretrained(folder)
        with pytest.raises(ModelError, match=r"another tokenizer.*(chat template|special tokens)"):
            load_model(str(folder), LoadSettings())
    (folder / "tokenizer_config.json").unlink()
    load_model(str(folder), LoadSettings())


def test_an_adapter_without_weights_is_not_looked_for_on_the_hub(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_adapter(tmp_path / "lora", base)
    (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"not adapter_model\.safetensors"):
        load_model("lora", LoadSettings())


@pytest.mark.parametrize(
    ("error", "known"), [(torch.OutOfMemoryError("CUDA out of memory"), False), (NotImplementedError("no"), True)]
)
def test_memory_that_ran_out_while_merging_is_not_told_as_a_misfit(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError, known: bool
) -> None:
    def failing(_: object) -> None:
        raise error

    monkeypatch.setattr("peft.PeftModel.merge_and_unload", failing, raising=False)
    write_adapter(tmp_path / "lora", base)
    with pytest.raises(ModelError, match="does not fit" if known else "out of memory"):
        load_model(str(tmp_path / "lora"), LoadSettings())


def test_a_pickled_adapter_is_refused(tmp_path: Path, base: Path) -> None:
    write_adapter(tmp_path / "lora", base)
    (tmp_path / "lora" / "adapter_model.safetensors").rename(tmp_path / "lora" / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        load_model(str(tmp_path / "lora"), LoadSettings())
