from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tests.models.pico import build_pico
from tests.unit.export.conftest import VERIFICATION, as_loaded, tied_llama

from heretic.common.errors import ExportError
from heretic.export import verify
from heretic.export.compare import compare_files, compare_models
from heretic.export.verify import (
    Placement,
    Verification,
    find_placement,
    verify_merged,
)
from heretic.models.access import same_bits
from heretic.models.loaded import LoadedModel
from heretic.observability.events import Event, Warned


@pytest.fixture
def folder(loaded: LoadedModel, tmp_path: Path) -> Path:
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def flip_one_bit(folder: Path, name: str) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name].view(torch.int32).reshape(-1)[7] ^= 1
    save_file(tensors, path, metadata={"format": "pt"})


def test_intact_folder(folder: Path, loaded: LoadedModel) -> None:
    assert verify_merged(folder, loaded, VERIFICATION) == 2
    assert verify_merged(folder, loaded, Verification(())) == 0


@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "lm_head.weight", "model.norm.weight"])
def test_smallest_change_of_a_weight_is_found_by_name(folder: Path, loaded: LoadedModel, name: str) -> None:
    flip_one_bit(folder, name)
    with pytest.raises(ExportError, match=name):
        verify_merged(folder, loaded, VERIFICATION)


def test_weight_that_is_not_in_the_files(folder: Path, loaded: LoadedModel) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.0.mlp.down_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"model\.layers\.0\.mlp\.down_proj\.weight"):
        verify_merged(folder, loaded, VERIFICATION)


def test_answers_are_compared_even_where_all_weights_agree(folder: Path, loaded: LoadedModel) -> None:
    path = folder / "config.json"
    text = path.read_text()
    assert '"rope_theta": 10000.0' in text
    path.write_text(text.replace('"rope_theta": 10000.0', '"rope_theta": 3.0'))
    prompts = Verification(("<|user|>" + "abcdefgh" * 12,) * 2, False, 20)
    with pytest.raises(ExportError, match="answers verification prompt 1 differently"):
        verify_merged(folder, loaded, prompts)


def test_changed_tokenizer(folder: Path, loaded: LoadedModel) -> None:
    other = as_loaded(loaded.model)
    other.tokenizer.add_special_tokens({"additional_special_tokens": ["hello"]})
    with pytest.raises(ExportError, match="splits a verification prompt differently"):
        verify_merged(folder, other, VERIFICATION)


def test_folder_that_cannot_be_loaded(folder: Path, loaded: LoadedModel) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ExportError, match="cannot be loaded again"):
        verify_merged(folder, loaded, VERIFICATION)
    (folder / "config.json").unlink()
    with pytest.raises(ExportError, match=r"lacks its config\.json"):
        verify_merged(folder, loaded, VERIFICATION)


def test_damaged_weight_file(folder: Path, loaded: LoadedModel) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SafetensorError):  # which save_model turns into an ExportError
        verify_merged(folder, loaded, VERIFICATION)


def test_no_memory_for_a_second_copy(
    folder: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    monkeypatch.setattr(verify, "get_max_memory", lambda: {"cpu": 1000})
    assert verify_merged(folder, loaded, VERIFICATION) == 0
    assert any(isinstance(event, Warned) and "every tensor" in event.message for event in events)
    flip_one_bit(folder, "model.norm.weight")
    with pytest.raises(ExportError, match=r"model\.norm\.weight"):  # the files are compared all the same
        verify_merged(folder, loaded, VERIFICATION)


def test_on_another_device_logits_are_compared(
    folder: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "find_placement", lambda _: Placement({"": "cpu"}, exact=False))
    assert verify_merged(folder, loaded, VERIFICATION) == 2
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"rope_theta": 10000.0', '"rope_theta": 3.0'))
    with pytest.raises(ExportError, match="verification prompt 1"):
        verify_merged(folder, loaded, VERIFICATION)


def test_names_that_only_the_files_have_are_reported(tmp_path: Path) -> None:
    model = build_pico("llama")
    save_file({"other.name": torch.zeros(3)}, tmp_path / "model.safetensors")
    assert compare_files(tmp_path, model) == ["other.name"]


def test_untied_embeddings_are_found() -> None:
    tied, other = tied_llama(), tied_llama()
    compare_models(other, tied)
    other.lm_head.weight = torch.nn.Parameter(other.lm_head.weight.clone(), requires_grad=False)
    with pytest.raises(ExportError, match="ties"):
        compare_models(other, tied)


def test_lossless_widening_is_no_difference_but_rounding_is() -> None:
    narrow, wide = tied_llama().bfloat16(), tied_llama().bfloat16()
    wide.model.norm.float()
    compare_models(wide, narrow)
    with pytest.raises(ExportError, match=r"model\.norm\.weight"):
        compare_models(narrow, wide)
    wide.model.norm.weight.data[0] += 1e-5
    with pytest.raises(ExportError, match=r"model\.norm\.weight"):
        compare_models(wide, narrow)


def test_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_pico("llama")
    size = sum(parameter.nbytes for parameter in model.parameters())
    monkeypatch.setattr(verify, "get_max_memory", lambda: {"cpu": 2 * size})
    assert find_placement(model) == Placement({"": torch.device("cpu")}, exact=True)
    monkeypatch.setattr(verify, "get_max_memory", lambda: {"cpu": int(1.1 * size)})
    assert find_placement(model) is None
    monkeypatch.setattr(verify, "get_max_memory", lambda: {"cpu": 2 * size})
    assert find_placement(model.to("meta")) == Placement({"": "cpu"}, exact=False)


def test_bits() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_bits(torch.zeros(2), torch.zeros(2, dtype=torch.float16))
    assert not same_bits(torch.zeros(2, 1), torch.zeros(1, 2))
    assert same_bits(torch.tensor(1.5), torch.tensor(1.5))
    assert same_bits(torch.zeros(2, 3).T, torch.zeros(3, 2))
