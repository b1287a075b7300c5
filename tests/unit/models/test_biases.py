"""Biases that a configuration can switch on: who gets one, that nothing else changes, and that they are saved."""

from pathlib import Path

import pytest
import torch
from tests.models.pico import LIST_EXPERTS, PICO_FAMILIES, POST_NORM, build_pico, pico_names, pico_token_ids
from transformers import PreTrainedModel

from heretic.common.errors import ModelError
from heretic.models.access import writer_bias
from heretic.models.biases import bias_holders, hold_biases, match_biases
from heretic.models.layout import find_layout

HOLDERS = {
    "qwen3": ("self_attn.o_proj", ("attention_bias",)),
    "granite": ("mlp.down_proj", ("mlp_bias",)),
    "cohere": ("self_attn.o_proj", ("attention_bias",)),
    "llama": ("mlp.down_proj", ()),
    "gpt2": ("mlp.c_proj", ()),
    "llava": ("mlp.down_proj", ("mlp_bias",)),
    "qwen3_moe": ("self_attn.o_proj", ("attention_bias",)),
    "falcon_h1": ("feed_forward.down_proj", ("mlp_bias",)),
}
WITHOUT = ("qwen2", "mistral", "phi3", "stablelm", "mixtral", "qwen2_moe", "qwen2_5_vl", *pico_names(POST_NORM))


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(pico_token_ids(), use_cache=False).logits
    return result


@pytest.mark.parametrize("family", HOLDERS)
def test_the_writer_and_its_option_are_found(family: str) -> None:
    model = build_pico(family)
    ending, options = HOLDERS[family]
    holders = bias_holders(model, find_layout(model))
    assert set(holders) == {0, 1, 2}
    for own in holders.values():
        assert own[0].writer.path.endswith(ending)
        assert own[0].options == options


@pytest.mark.parametrize("family", WITHOUT)
def test_classes_without_such_biases_have_no_holder(family: str) -> None:
    model = build_pico(family)
    layout = find_layout(model)
    assert bias_holders(model, layout) == {}
    with pytest.raises(ModelError, match=r"cannot hold a bias in .*; use --use-caa false"):
        hold_biases(model, layout, [layout.writers[0].path])


@pytest.mark.parametrize("family", sorted(set(PICO_FAMILIES) - set(WITHOUT)))
def test_biases_are_zero_until_they_are_used_and_survive_saving(family: str, tmp_path: Path) -> None:
    model = build_pico(family)
    layout = find_layout(model)
    before = logits(model)
    names = {name for name, _ in model.named_parameters()}
    holders = bias_holders(model, layout)
    paths = [own[-1].writer.path for own in holders.values()]
    held = hold_biases(model, layout, paths)
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-6)
    assert [writer.path for writer in held.writers] == [writer.path for writer in layout.writers]
    new = {name: value for name, value in model.named_parameters() if name not in names}
    assert all(not value.any() for value in new.values())
    for writer in held.writers:
        if writer.path in paths:
            bias = writer_bias(model, writer)
            assert bias is not None
            bias.data += torch.randn(bias.shape, generator=torch.Generator().manual_seed(2))
    shifted = logits(model)
    assert (shifted - before).abs().max() > 1e-3
    again = build_pico(family)
    match_biases(again, model)
    assert {name for name, _ in again.named_parameters()} == {name for name, _ in model.named_parameters()}
    torch.testing.assert_close(logits(again), before, rtol=1e-5, atol=1e-6)
    if family in pico_names(LIST_EXPERTS):
        return  # a class of the tests' own, which a folder cannot name
    model.save_pretrained(tmp_path / "saved")
    reloaded = type(model).from_pretrained(tmp_path / "saved").eval()
    torch.testing.assert_close(logits(reloaded), shifted, rtol=1e-5, atol=1e-5)
