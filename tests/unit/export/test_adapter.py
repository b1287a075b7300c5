import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.models.pico import build_pico
from tests.unit.export.conftest import VERIFICATION, all_logits, as_loaded, names_in
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from heretic.common.errors import ExportError
from heretic.common.integrity import check_folder
from heretic.editors.adapter import Factors
from heretic.export import verify
from heretic.export.adapter import WEIGHTS_NAME, check_factors, factor_bytes, write_adapter
from heretic.export.content import ExportContent, ExportFormat
from heretic.export.verify import relative_difference, verify_adapter
from heretic.export.weights import save_model
from heretic.models.loaded import LoadedModel
from heretic.observability.events import Event, Warned

ByModule = dict[str, Factors]

PATHS = {
    "llama": ("model.layers.1.self_attn.o_proj", "model.layers.1.mlp.down_proj", "model.layers.2.mlp.down_proj"),
    "gpt2": ("transformer.h.1.attn.c_proj", "transformer.h.1.mlp.c_proj", "transformer.h.2.mlp.c_proj"),
    "list_moe": (
        "model.layers.0.mlp.experts.1.w2",
        "model.layers.0.mlp.experts.4.w2",
        "model.layers.1.self_attn.o_proj",
    ),
}
RANKS = (1, 1, 2)


def make_factors(
    model: PreTrainedModel, paths: tuple[str, ...], dtype: torch.dtype = torch.float32, with_norms: bool = False
) -> ByModule:
    generator = torch.Generator().manual_seed(0)
    factors = {}
    for path, rank in zip(paths, RANKS, strict=True):
        module = model.get_submodule(path)
        weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        rows, columns = weight.shape
        a = torch.randn(rank, columns, generator=generator, dtype=torch.float64).to(dtype)
        b = 0.3 * torch.randn(rows, rank, generator=generator, dtype=torch.float64).to(dtype)
        norms = weight.detach().to(dtype).norm(dim=1) * (1.5 if rank == 2 else 1)
        factors[path] = Factors(a, b, norms if with_norms else None)
    return factors


def merge(model: PreTrainedModel, factors: ByModule) -> None:
    for path, own in factors.items():
        module = model.get_submodule(path)
        turned = isinstance(module, Conv1D)
        merged = (module.weight.data.T if turned else module.weight.data).to(own.b) + own.b @ own.a
        if own.row_norms is not None:
            merged *= (own.row_norms / merged.norm(dim=1))[:, None]
        module.weight.data = (merged.T.contiguous() if turned else merged).to(module.weight.dtype)


def edited(name: str, dtype: torch.dtype = torch.float32, with_norms: bool = False) -> tuple[LoadedModel, ByModule]:
    model = build_pico(name, dtype=dtype)
    factors = make_factors(model, PATHS[name], torch.float64 if dtype == torch.float64 else torch.float32, with_norms)
    merge(model, factors)
    return as_loaded(model), factors


@pytest.mark.versions
@pytest.mark.parametrize("name", list(PATHS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("with_norms", [False, True])
def test_base_with_adapter_is_the_edited_model(
    name: str, dtype: torch.dtype, with_norms: bool, content: ExportContent, tmp_path: Path
) -> None:
    loaded, factors = edited(name, dtype, with_norms)
    saved = save_model(
        loaded,
        tmp_path / "out",
        content,
        factors=factors,
        verification=VERIFICATION,
        load_base=lambda: build_pico(name, dtype=dtype),
    )
    assert (saved.format, saved.verified_answers) == (ExportFormat.ADAPTER, 2)
    assert check_folder(saved.path) == []
    configuration = json.loads((saved.path / "adapter_config.json").read_text(encoding="utf-8"))
    assert configuration["use_dora"] is with_norms
    base = build_pico(name, dtype=dtype)
    original = all_logits(base)
    adapted = all_logits(PeftModel.from_pretrained(base, str(saved.path)).eval())
    expected = all_logits(loaded.model)
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]
    assert (adapted - expected).norm() < tolerance * expected.norm()
    assert (original - expected).norm() > 3 * (adapted - expected).norm()


@pytest.mark.versions
def test_folder(content: ExportContent, tmp_path: Path) -> None:
    loaded, factors = edited("llama")
    loaded = replace(loaded, name="some/base", source="some/base", commit="abc123")
    save_model(loaded, tmp_path / "out", content, factors=factors, load_base=lambda: build_pico("llama"))
    assert names_in(tmp_path / "out") == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "README.md",
        "heretic_metadata.json",
    }
    configuration = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert configuration["base_model_name_or_path"] == "some/base"
    assert configuration["revision"] == "abc123"
    assert configuration["target_modules"] == sorted(PATHS["llama"])
    assert configuration["lora_alpha"] == configuration["r"]
    assert names_in(tmp_path) == {"out"}


def test_model_in_memory_is_not_touched(tmp_path: Path) -> None:
    loaded, factors = edited("llama")
    before, modules = all_logits(loaded.model), [name for name, _ in loaded.model.named_modules()]
    write_adapter(loaded, factors, tmp_path)
    assert torch.equal(all_logits(loaded.model), before)
    assert [name for name, _ in loaded.model.named_modules()] == modules


def test_expanded_factors_are_written_whole(tmp_path: Path) -> None:
    loaded, factors = edited("llama")
    path = PATHS["llama"][1]
    expanded = torch.ones(1, 1).expand(factors[path].b.shape)
    write_adapter(loaded, factors | {path: Factors(factors[path].a, expanded)}, tmp_path)
    written = load_file(tmp_path / WEIGHTS_NAME)[f"base_model.model.{path}.lora_B.weight"]
    assert torch.equal(written, torch.ones_like(factors[path].b))


@pytest.mark.parametrize("with_norms", [False, True])
def test_size_is_that_of_the_file(with_norms: bool, tmp_path: Path) -> None:
    loaded, factors = edited("llama", with_norms=with_norms)
    write_adapter(loaded, factors, tmp_path)
    assert 0 < (tmp_path / WEIGHTS_NAME).stat().st_size - factor_bytes(factors) < 4000


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, LoadedModel, ByModule]:
    loaded, factors = edited("llama")
    write_adapter(loaded, factors, tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    return tmp_path, loaded, factors


def test_verification_finds_a_changed_factor(folder: tuple[Path, LoadedModel, ByModule]) -> None:
    path, loaded, factors = folder
    tensors = load_file(path / WEIGHTS_NAME)
    name = f"base_model.model.{PATHS['llama'][2]}.lora_A.weight"
    tensors[name][0, 0] += 0.01
    save_file(tensors, path / WEIGHTS_NAME)
    with pytest.raises(ExportError, match=PATHS["llama"][2].replace(".", r"\.")):
        verify_adapter(path, loaded, factors, VERIFICATION, lambda: build_pico("llama"))


def test_verification_finds_other_norms(tmp_path: Path) -> None:
    loaded, factors = edited("llama", with_norms=True)
    write_adapter(loaded, factors, tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    assert verify_adapter(tmp_path, loaded, factors, VERIFICATION, lambda: build_pico("llama")) == 2
    tensors = load_file(tmp_path / WEIGHTS_NAME)
    tensors[f"base_model.model.{PATHS['llama'][1]}.lora_magnitude_vector"][5] *= 1.01
    save_file(tensors, tmp_path / WEIGHTS_NAME)
    with pytest.raises(ExportError, match=PATHS["llama"][1].replace(".", r"\.")):
        verify_adapter(tmp_path, loaded, factors, VERIFICATION, lambda: build_pico("llama"))


def test_verification_finds_another_base(folder: tuple[Path, LoadedModel, ByModule]) -> None:
    path, loaded, factors = folder

    def other_base() -> PreTrainedModel:
        model = build_pico("llama")
        model.lm_head.weight.data = model.lm_head.weight.flip(0)  # no adapted weight differs
        return model

    with pytest.raises(ExportError, match="verification prompt 1"):
        verify_adapter(path, loaded, factors, VERIFICATION, other_base)


def scale_adapter(path: Path, scale: float) -> None:
    tensors = load_file(path / WEIGHTS_NAME)
    save_file(
        {name: tensor * (scale if "lora_B" in name else 1) for name, tensor in tensors.items()}, path / WEIGHTS_NAME
    )


def last_difference(first: PreTrainedModel, second: PreTrainedModel, loaded: LoadedModel) -> float:
    token_ids = loaded.tokenizer(VERIFICATION.texts[0], add_special_tokens=False)["input_ids"]
    return relative_difference(verify.last_logits(first, token_ids), verify.last_logits(second, token_ids))


@pytest.mark.versions
@pytest.mark.parametrize("quantization", ["none", "bnb_4bit"])
@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_verification_finds_an_adapter_that_does_nothing(tmp_path: Path, quantization: str, size: float) -> None:
    """However small the edit is: neither rounding of the weights nor the answers' tolerance hides it."""
    loaded, factors = edited("llama")
    base = build_pico("llama")
    small = {path: Factors(own.a, size * own.b) for path, own in factors.items()}
    with torch.no_grad():
        for path, own in small.items():
            original = base.get_submodule(path).weight
            loaded.model.get_submodule(path).weight.copy_(original + own.b @ own.a)
    write_adapter(loaded, small, tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    # The weights are ordinary ones; only what is compared depends on this word.
    loaded = replace(loaded, quantization=quantization)
    assert verify_adapter(tmp_path, loaded, small, VERIFICATION, lambda: build_pico("llama")) == 2
    scale_adapter(tmp_path, 0.0)
    with pytest.raises(ExportError, match="adds something else"):
        verify_adapter(tmp_path, loaded, small, VERIFICATION, lambda: build_pico("llama"))


def test_answers_within_the_tolerance_have_to_be_nearer_than_those_of_the_base(
    folder: tuple[Path, LoadedModel, ByModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, loaded, factors = folder
    monkeypatch.setattr(verify, "_compare_changes", lambda *_: None)
    monkeypatch.setattr(verify, "_compare_adapted_weights", lambda *_: None)
    effect = last_difference(build_pico("llama"), loaded.model, loaded)
    monkeypatch.setitem(verify.LOGITS_TOLERANCE, loaded.model.dtype, 0.95 * effect)
    verify_adapter(path, loaded, factors, VERIFICATION, lambda: build_pico("llama"))
    scale_adapter(path, 0.2)
    with pytest.raises(ExportError, match="verification prompt 1"):
        verify_adapter(path, loaded, factors, VERIFICATION, lambda: build_pico("llama"))


def test_base_is_loaded_from_its_source_by_default(content: ExportContent, tmp_path: Path) -> None:
    loaded, factors = edited("llama")
    source = tmp_path / "base"
    build_pico("llama").save_pretrained(source)
    loaded = replace(loaded, source=str(source))
    saved = save_model(loaded, tmp_path / "out", content, factors=factors, verification=VERIFICATION)
    assert saved.verified_answers == 2


def test_base_that_is_gone(content: ExportContent, tmp_path: Path) -> None:
    loaded, factors = edited("llama")
    with pytest.raises(ExportError, match="cannot be loaded again"):
        save_model(loaded, tmp_path / "out", content, factors=factors)
    assert names_in(tmp_path) == set()


def test_no_memory(folder: tuple[Path, LoadedModel, ByModule], monkeypatch, events: list[Event]) -> None:
    path, loaded, factors = folder
    monkeypatch.setattr(verify, "find_placement", lambda _: None)
    assert verify_adapter(path, loaded, factors, VERIFICATION) == 0
    assert any(isinstance(event, Warned) for event in events)


def test_factors_that_do_not_fit() -> None:
    loaded, factors = edited("llama")
    model, path = loaded.model, PATHS["llama"][0]
    a, b = factors[path].a, factors[path].b
    with pytest.raises(ExportError, match="changes no weight"):
        check_factors(model, {})
    with pytest.raises(ExportError, match="no module"):
        check_factors(model, {"model.nowhere": factors[path]})
    with pytest.raises(ExportError, match="has no weight"):
        check_factors(model, {"model.layers.1": factors[path]})
    with pytest.raises(ExportError, match="but the weight is"):
        check_factors(model, {path: Factors(b.T, a.T)})
    with pytest.raises(ExportError, match="give"):
        check_factors(model, {path: Factors(a.expand(2, -1), b)})
    with pytest.raises(ExportError, match="give"):
        check_factors(model, {path: Factors(a, b, torch.ones(3))})


def test_target_that_would_catch_another_module() -> None:
    model = build_pico("llama")
    model.add_module("outer", torch.nn.ModuleDict({"lm_head": torch.nn.Linear(3, 3)}))
    rows, columns = model.lm_head.weight.shape
    with pytest.raises(ExportError, match=r"outer\.lm_head too"):
        check_factors(model, {"lm_head": Factors(torch.zeros(1, columns), torch.zeros(rows, 1))})
