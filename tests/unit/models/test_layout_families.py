"""Declarations that the pico matrix does not use: unusual names, norms and things that no edit can follow."""

from typing import Any

import pytest
import torch
from tests.models import pico
from tests.models.pico import PicoFamily, build_family
from tests.models.residual_stream import (
    assert_axes_and_gain_let_a_direction_be_removed,
    assert_each_writer_moves_the_stream_along_its_output,
    assert_silent_layers_are_identities,
)
from transformers import PreTrainedModel

from heretic.common.errors import LayoutError
from heretic.edits.writer import ATTENTION, MLP
from heretic.models.layout import find_layout, layout_summary

BASE = pico.base_options()
PLAIN = {name: value for name, value in BASE.items() if name != "head_dim"}
MOE = pico.moe_options()
MAMBA = {"num_heads": 8, "head_dim": 8, "expand": 2, "state_size": 6, "n_groups": 1, "layer_norm_epsilon": 1e-5}

COMPLETE: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "afmoe": ("afmoe", MOE | {"num_dense_layers": 1, "num_shared_experts": 1}, {ATTENTION: 3, MLP: 13}),
    "codegen": ("codegen", pico.GPT2_OPTIONS | {"rotary_dim": 4}, {ATTENTION: 3, MLP: 3}),
    "gpt_bigcode": ("gpt_bigcode", pico.GPT2_OPTIONS, {ATTENTION: 3, MLP: 3}),
    "hyperclovax": ("hyperclovax", PLAIN | {"use_post_norm": True}, {ATTENTION: 3, MLP: 3}),
    "hyperclovax_off": ("hyperclovax", PLAIN | {"use_post_norm": False}, {ATTENTION: 3, MLP: 3}),
    "mamba2": ("mamba2", {**PLAIN, **MAMBA}, {ATTENTION: 3}),
    "olmo3": ("olmo3", PLAIN | {"sliding_window": 16}, {ATTENTION: 3, MLP: 3}),
    "xlstm": ("xlstm", PLAIN | {"num_heads": 4}, {ATTENTION: 3, MLP: 3}),
}


def build(model_type: str, options: dict[str, Any]) -> PreTrainedModel:
    return build_family(PicoFamily(model_type, model_type, options, ()))


@pytest.mark.parametrize("name", COMPLETE)
def test_every_writer_is_found(name: str) -> None:
    model_type, options, counts = COMPLETE[name]
    model = build(model_type, options)
    layout = find_layout(model)
    assert layout_summary(layout) == counts
    assert layout.uneditable == ()
    assert_silent_layers_are_identities(model, layout)
    assert_each_writer_moves_the_stream_along_its_output(model, layout)
    assert_axes_and_gain_let_a_direction_be_removed(model, layout)


def test_identity_in_the_place_of_a_norm_is_no_norm() -> None:
    model_type, options, _ = COMPLETE["hyperclovax_off"]
    assert all(writer.post_norm is None for writer in find_layout(build(model_type, options)).writers)


def test_jetmoe_adds_constants_that_no_matrix_writes() -> None:
    options = PLAIN | {"num_local_experts": 5, "num_experts_per_tok": 2, "kv_channels": 8, "num_attention_heads": 2}
    model = build("jetmoe", options)
    layout = find_layout(model)
    assert layout_summary(layout) == {ATTENTION: 15, MLP: 15}
    assert {(entry.component, entry.path) for entry in layout.uneditable if entry.layer == 0} == {
        (ATTENTION, "model.layers.0.self_attention.experts.bias"),
        (MLP, "model.layers.0.mlp.bias"),
    }
    for entry in layout.uneditable:
        model.get_parameter(entry.path).zero_()
    assert_silent_layers_are_identities(model, layout)


def test_rwkv_value_behind_a_gate_is_reported() -> None:
    options = {"vocab_size": pico.VOCABULARY, "hidden_size": 32, "attention_hidden_size": 40, "num_hidden_layers": 2}
    layout = find_layout(build("rwkv", options | {"intermediate_size": 52}))
    assert [writer.path for writer in layout.writers] == [
        "rwkv.blocks.0.attention.output",
        "rwkv.blocks.1.attention.output",
    ]
    assert [entry.path for entry in layout.uneditable] == [
        "rwkv.blocks.0.feed_forward.value",
        "rwkv.blocks.1.feed_forward.value",
    ]


def test_writer_in_front_of_a_convolution_cannot_be_edited() -> None:
    model = build("llama", BASE)
    for layer in model.model.layers:
        layer.attn_sconv = torch.nn.Sequential(torch.nn.Conv1d(pico.HIDDEN, pico.HIDDEN, 3, groups=pico.HIDDEN))
    layout = find_layout(model)
    named = {entry.path: entry.reason for entry in layout.uneditable if entry.path.endswith("o_proj")}
    assert len(named) == pico.LAYERS
    assert all("attn_sconv" in reason for reason in named.values())


def test_experts_behind_a_latent_projection_are_no_writers_even_where_the_sizes_agree() -> None:
    options = dict(pico.PICO_FAMILIES["nemotron_h"].options) | {"moe_latent_size": pico.HIDDEN}
    model = build("nemotron_h", options)
    layout = find_layout(model)
    assert [writer.path for writer in layout.writers if writer.layer == 2] == [
        "model.layers.2.mixer.shared_experts.down_proj",
        "model.layers.2.mixer.fc2_latent_proj",
    ]
    assert layout.uneditable == ()
    assert_silent_layers_are_identities(model, layout)


def test_shared_blocks_of_zamba_are_not_writers() -> None:
    options = PLAIN | {
        "num_key_value_heads": 4,
        "num_hidden_layers": 3,
        "layer_types": ["mamba", "hybrid", "hybrid"],
        "mamba_d_state": 6,
        "n_mamba_heads": 2,
        "use_mamba_kernels": False,
    }
    model = build("zamba", options)
    layout = find_layout(model)
    assert layout_summary(layout) == {ATTENTION: 3}
    assert_silent_layers_are_identities(model, layout)


def test_a_family_with_nothing_known_is_refused_with_the_place_to_declare_it() -> None:
    with pytest.raises(LayoutError, match=r"declare the layer's writers in heretic/models/families\.py"):
        find_layout(build("ctrl", pico.GPT2_OPTIONS | {"dff": 52}))
