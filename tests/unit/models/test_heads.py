"""Columns of output projections belong to the query heads that they are said to belong to."""

import pytest
import torch
from tests.models.pico import HEADS, KEY_VALUE_HEADS, LINEAR_ATTENTION, build_pico, pico_names, pico_token_ids
from torch import Tensor
from transformers import PreTrainedModel

from heretic.edits.writer import ATTENTION
from heretic.models.heads import HeadColumns, head_columns
from heretic.models.layout import find_layout


def inputs_of(model: PreTrainedModel, own: HeadColumns) -> Tensor:
    """[B, T, H, size]: what the output projection reads."""
    seen: list[Tensor] = []
    handle = model.get_submodule(own.writer.path).register_forward_pre_hook(
        lambda _module, arguments: seen.append(arguments[0].clone())
    )
    with torch.no_grad():
        model(pico_token_ids(), use_cache=False)
    handle.remove()
    return seen[0].unflatten(-1, (own.count, own.size))


@pytest.mark.parametrize("family", pico_names())
def test_every_attention_is_found_and_nothing_else(family: str) -> None:
    model = build_pico(family)
    layout = find_layout(model)
    found = head_columns(model, layout)
    assert found
    expected = [
        writer.path
        for writer in layout.writers
        if writer.component == ATTENTION
        and not any(
            other in writer.path for other in ("linear_attn", "mamba", ".conv.", "mixer.out_proj", "linear_out")
        )
    ]
    assert [own.writer.path for own in found] == expected
    for own in found:
        assert own.count == HEADS
        assert own.size * own.count == own.writer.input_size
        mask = own.mask([1, 3])
        assert mask.sum() == 2 * own.size
        assert mask[own.size : 2 * own.size].all()
        assert mask[3 * own.size :].all()


@pytest.mark.parametrize("family", pico_names())
def test_a_query_moves_the_columns_of_its_own_head_alone(family: str) -> None:
    """Grouped queries included: the keys and values that heads share are not touched."""
    model = build_pico(family)
    layout = find_layout(model)
    own = head_columns(model, layout)[-1]
    attention = model.get_submodule(own.writer.path.rpartition(".")[0])
    projection = getattr(attention, "q_proj", None) or getattr(attention, "q_b_proj", None)
    whole_norm = hasattr(attention, "q_norm") and attention.q_norm.weight.numel() > own.size
    if projection is None or whole_norm:
        return  # fused with keys and values, or normalised over all heads together
    before = inputs_of(model, own)
    head = 2
    with torch.no_grad():
        rows = projection.weight.unflatten(0, (own.count, -1))
        rows[head] += 0.5 * torch.randn(rows[head].shape, generator=torch.Generator().manual_seed(1))
    changed = (inputs_of(model, own) - before).abs().amax((0, 1, 3)) > 1e-6
    assert changed.tolist() == [index == head for index in range(own.count)]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt_oss", "mistral"])
def test_a_value_moves_all_heads_of_its_group(family: str) -> None:
    model = build_pico(family)
    own = head_columns(model, find_layout(model))[-1]
    attention = model.get_submodule(own.writer.path.rpartition(".")[0])
    before = inputs_of(model, own)
    with torch.no_grad():
        attention.v_proj.weight.unflatten(0, (KEY_VALUE_HEADS, -1))[1] += 0.5
    changed = (inputs_of(model, own) - before).abs().amax((0, 1, 3)) > 1e-6
    assert changed.tolist() == [False, False, True, True]


@pytest.mark.parametrize("family", pico_names(LINEAR_ATTENTION))
def test_recurrent_mixers_have_no_such_heads(family: str) -> None:
    model = build_pico(family)
    layout = find_layout(model)
    assert {own.writer.layer for own in head_columns(model, layout)} == {layout.layer_count - 1}
