"""Residual writers are found in every family, and numbers, not names, prove it."""

import pytest
import torch
from tests.models import pico
from tests.models.pico import PICO_FAMILIES, build_pico, pico_names
from tests.models.residual_stream import (
    assert_axes_and_gain_let_a_direction_be_removed,
    assert_each_writer_moves_the_stream_along_its_output,
    assert_silent_layers_are_identities,
)
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from heretic.common.errors import LayoutError
from heretic.edits.writer import ATTENTION, MLP, ModelLayout, Orientation, WriterKind
from heretic.models import declarations, families
from heretic.models.access import writer_bias, writer_weight
from heretic.models.layout import find_layout, layout_summary
from heretic.models.writers import norm_offset

ALL = list(PICO_FAMILIES)


@pytest.fixture(scope="module", params=ALL)
def found(request: pytest.FixtureRequest) -> tuple[str, PreTrainedModel, ModelLayout]:
    model = build_pico(request.param)
    return request.param, model, find_layout(model)


def test_every_layer_has_the_declared_number_of_writers(found: tuple[str, PreTrainedModel, ModelLayout]) -> None:
    name, _, layout = found
    counts = tuple(sum(writer.layer == layer for writer in layout.writers) for layer in range(layout.layer_count))
    assert counts == PICO_FAMILIES[name].writes_per_layer
    assert layout.uneditable == ()


def test_without_its_writers_a_layer_is_the_identity(found: tuple[str, PreTrainedModel, ModelLayout]) -> None:
    assert_silent_layers_are_identities(found[1], found[2])


def test_each_writer_alone_moves_the_stream_along_its_own_output(
    found: tuple[str, PreTrainedModel, ModelLayout],
) -> None:
    assert_each_writer_moves_the_stream_along_its_output(found[1], found[2])


def test_axes_and_gain_let_a_direction_be_removed(found: tuple[str, PreTrainedModel, ModelLayout]) -> None:
    assert_axes_and_gain_let_a_direction_be_removed(found[1], found[2])


def test_sizes_are_those_of_the_tensor(found: tuple[str, PreTrainedModel, ModelLayout]) -> None:
    _, model, layout = found
    for writer in layout.writers:
        axes = (writer.output_size, writer.input_size)
        if writer.orientation is Orientation.IN_OUT:
            axes = axes[::-1]
        experts = (writer.expert_count,) if writer.kind is WriterKind.FUSED_EXPERTS else ()
        assert tuple(writer_weight(model, writer).shape) == experts + axes
        assert writer.output_size == layout.hidden_size == pico.HIDDEN
        bias = writer_bias(model, writer)
        assert bias is None or tuple(bias.shape) == (*experts, writer.output_size)


def test_a_forgotten_declaration_shows(
    found: tuple[str, PreTrainedModel, ModelLayout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the MLP names gone, every MLP writer is reported instead of vanishing."""
    _, model, layout = found
    only_attention = tuple(rule for rule in families.GENERIC.writers if rule.component == ATTENTION)
    known = families.Family(name="crippled", writers=only_attention, inner=families.GENERIC.inner)
    monkeypatch.setattr(declarations, "GENERIC", known)
    monkeypatch.setattr(declarations, "FAMILIES", ())
    missing = {
        writer.path if writer.kind is not WriterKind.FUSED_EXPERTS else writer.tensor_name
        for writer in layout.writers
        if writer.component == MLP
    }
    report = full_report(model)
    if report.startswith("Layer "):
        missing = {path for path in missing if path.startswith(report.split("(")[1].split(",")[0] + ".")}
    assert missing
    assert all(f"{path}: it is not declared" in report for path in missing)


def full_report(model: PreTrainedModel) -> str:
    """What cannot be edited, be it a list or an error about the first layer in which nothing can."""
    try:
        return "; ".join(f"{entry.path}: {entry.reason}" for entry in find_layout(model).uneditable)
    except LayoutError as error:
        return str(error)


def test_vision_towers_are_left_alone() -> None:
    for name in pico_names(pico.VISION):
        layout = find_layout(build_pico(name))
        assert all("language_model.layers" in writer.path for writer in layout.writers)
        assert len(layout.writers) == 2 * pico.LAYERS


def test_kinds_and_orientations_of_the_matrix() -> None:
    def kinds(name: str) -> set[tuple[str, WriterKind, Orientation]]:
        return {(writer.component, writer.kind, writer.orientation) for writer in find_layout(build_pico(name)).writers}

    for name in pico_names(pico.CONV1D):
        assert {kind for _, kind, _ in kinds(name)} == {WriterKind.CONV1D}
    for name in pico_names(pico.FUSED_OUT_IN):
        assert (MLP, WriterKind.FUSED_EXPERTS, Orientation.OUT_IN) in kinds(name)
    for name in pico_names(pico.FUSED_IN_OUT):
        assert (MLP, WriterKind.FUSED_EXPERTS, Orientation.IN_OUT) in kinds(name)
    for name in pico_names(pico.POST_NORM):
        layout = find_layout(build_pico(name))
        assert all(writer.post_norm is not None for writer in layout.writers)


def test_summary_counts_each_expert() -> None:
    layers, experts = pico.LAYERS, pico.EXPERTS
    expected = {ATTENTION: layers, MLP: layers * experts}
    assert layout_summary(find_layout(build_pico("list_moe"))) == expected
    assert layout_summary(find_layout(build_pico("mixtral"))) == expected


class TestNormOffset:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize(
        ("name", "offset"), [("gemma2", 1.0), ("gemma3_text", 1.0), ("olmo2", 0.0), ("gemma4_moe", 0.0)]
    )
    def test_zero_weight_gives_gain_of_the_offset(self, name: str, offset: float, dtype: torch.dtype) -> None:
        model = build_pico(name, dtype=dtype)
        writer = find_layout(model).writers[0]
        assert writer.post_norm is not None
        assert writer.post_norm_offset == offset
        norm = model.get_submodule(writer.post_norm)
        norm.weight.zero_()
        output = norm(torch.randn(1, 3, pico.HIDDEN, dtype=dtype))
        assert bool(output.any()) is bool(offset)

    def test_large_gains_in_half_precision(self) -> None:
        model = build_pico("gemma2", dtype=torch.bfloat16)
        norm = model.model.layers[0].post_attention_layernorm
        norm.weight.copy_(torch.linspace(-3, 60, pico.HIDDEN))
        assert norm_offset(norm) == 1.0

    def test_a_norm_that_is_something_else_makes_its_writers_uneditable(self) -> None:
        model = build_pico("olmo2")
        model.model.layers[1].post_attention_layernorm.forward = lambda hidden: 3.0 * hidden
        layout = find_layout(model)
        (entry,) = layout.uneditable
        assert entry.path == "model.layers.1.self_attn.o_proj"
        assert "post_attention_layernorm" in entry.reason


class TestUneditable:
    def test_undeclared_square_matrix_is_reported_and_the_rest_is_found(self) -> None:
        model = build_pico("llama")
        model.model.layers[2].mlp.refinement = nn.Linear(7, pico.HIDDEN)
        layout = find_layout(model)
        (entry,) = layout.uneditable
        assert (entry.layer, entry.path) == (2, "model.layers.2.mlp.refinement")
        assert "not declared" in entry.reason
        assert len(layout.writers) == 2 * pico.LAYERS

    def test_undeclared_expert_tensor_is_reported(self) -> None:
        model = build_pico("mixtral")
        experts = model.model.layers[0].mlp.experts
        experts.afterthought = nn.Parameter(torch.zeros(pico.EXPERTS, 7, pico.HIDDEN))
        assert [entry.path for entry in find_layout(model).uneditable] == ["model.layers.0.mlp.experts.afterthought"]

    def test_a_bare_constant_is_reported(self) -> None:
        model = build_pico("llama")
        model.model.layers[0].mlp.bias = nn.Parameter(torch.zeros(pico.HIDDEN))
        (entry,) = find_layout(model).uneditable
        assert entry.path == "model.layers.0.mlp.bias"
        assert "constant" in entry.reason

    def test_square_experts_of_unknown_axis_order(self) -> None:
        model = build_pico("gpt_oss_square")
        for layer in model.model.layers:
            del layer.mlp.experts.is_transposed
        layout = find_layout(model)
        assert {writer.component for writer in layout.writers} == {ATTENTION}
        assert len(layout.uneditable) == pico.LAYERS
        assert all("axis order" in entry.reason for entry in layout.uneditable)

    def test_unequal_sizes_do_not_overrule_the_module(self) -> None:
        model = build_pico("gpt_oss")
        for layer in model.model.layers:
            layer.mlp.experts.is_transposed = False
        assert {entry.component for entry in find_layout(model).uneditable} == {MLP}

    def test_weight_shared_between_layers(self) -> None:
        model = build_pico("llama")
        layers = model.model.layers
        layers[2].mlp.down_proj = layers[0].mlp.down_proj
        layout = find_layout(model)
        assert {entry.path for entry in layout.uneditable} == {
            "model.layers.0.mlp.down_proj",
            "model.layers.2.mlp.down_proj",
        }
        assert "shared with model.layers.2" in layout.uneditable[0].reason
        assert "shared with model.layers.0" in layout.uneditable[1].reason

    def test_weight_shared_with_the_rest_of_the_model(self) -> None:
        model = build_pico("llama")
        model.adapter = nn.Linear(40, pico.HIDDEN)
        model.adapter.weight = model.model.layers[1].self_attn.o_proj.weight
        (entry,) = find_layout(model).uneditable
        assert "adapter.weight" in entry.reason

    def test_weight_shared_within_a_layer_is_one_writer(self) -> None:
        model = build_pico("list_moe")
        experts = model.model.layers[0].mlp.experts
        experts[3] = experts[1]
        layout = find_layout(model)
        assert layout.uneditable == ()
        assert sum(writer.layer == 0 for writer in layout.writers) == pico.EXPERTS

    def test_offloaded_weight(self) -> None:
        model = build_pico("qwen3")
        model.model.layers[1].mlp.down_proj.to("meta")
        (entry,) = find_layout(model).uneditable
        assert entry.path == "model.layers.1.mlp.down_proj"
        assert "offloaded" in entry.reason

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float8_e4m3fn])
    def test_packed_expert_tensor(self, dtype: torch.dtype) -> None:
        model = build_pico("qwen3_moe")
        experts = model.model.layers[0].mlp.experts
        experts.down_proj = nn.Parameter(experts.down_proj.to(dtype), requires_grad=False)
        (entry,) = find_layout(model).uneditable
        assert "not in floating point" in entry.reason

    def test_packed_linear_without_a_weight(self) -> None:
        class PackedLinear(nn.Module):
            def __init__(self, in_features: int, out_features: int) -> None:
                super().__init__()
                self.in_features, self.out_features = in_features, out_features
                self.register_buffer("qweight", torch.zeros(in_features // 4, out_features, dtype=torch.int32))

        model = build_pico("llama")
        for layer in model.model.layers:
            layer.mlp.down_proj = PackedLinear(pico.INNER, pico.HIDDEN)
        layout = find_layout(model)
        assert len(layout.uneditable) == pico.LAYERS
        assert all(entry.reason.startswith("PackedLinear has no weight of its own") for entry in layout.uneditable)

    def test_mxfp4_experts_have_no_parameter_and_are_named_all_the_same(self) -> None:
        class Mxfp4GptOssExperts(nn.Module):
            hidden_size = pico.HIDDEN

        model = build_pico("gpt_oss")
        for layer in model.model.layers:
            layer.mlp.experts = Mxfp4GptOssExperts()
        layout = find_layout(model)
        assert [entry.path for entry in layout.uneditable] == [
            f"model.layers.{index}.mlp.experts.down_proj" for index in range(pico.LAYERS)
        ]
        assert all("packed" in entry.reason for entry in layout.uneditable)

    def test_bitsandbytes_linear_is_editable_and_keeps_its_true_sizes(self) -> None:
        class Linear4bit(nn.Linear):
            """Named as in bitsandbytes, with its packed column of bytes."""

        model = build_pico("llama")
        packed = Linear4bit(pico.INNER, pico.HIDDEN, bias=False)
        packed.weight = nn.Parameter(
            torch.zeros(pico.INNER * pico.HIDDEN // 2, 1, dtype=torch.uint8), requires_grad=False
        )
        model.model.layers[0].mlp.down_proj = packed
        layout = find_layout(model)
        assert layout.uneditable == ()
        (writer,) = (writer for writer in layout.writers if writer.path == "model.layers.0.mlp.down_proj")
        assert (writer.kind, writer.output_size, writer.input_size) == (WriterKind.LINEAR, pico.HIDDEN, pico.INNER)


class TestErrors:
    def test_layer_without_an_editable_writer(self) -> None:
        model = build_pico("llama")
        layer = model.model.layers[1]
        layer.self_attn.o_proj.to("meta")
        layer.mlp.down_proj.to("meta")
        with pytest.raises(LayoutError) as caught:
            find_layout(model)
        message = str(caught.value)
        assert "Layer 1 (model.layers.1, LlamaDecoderLayer)" in message
        assert "self_attn.q_proj (Linear)" in message
        assert "offloaded" in message

    def test_layer_that_nothing_declares(self) -> None:
        model = build_pico("llama")
        model.model.layers[0] = nn.Sequential(nn.Linear(3, 4))
        with pytest.raises(LayoutError, match=r"none of its modules is declared.*0 \(Linear\)"):
            find_layout(model)

    def test_encoder_decoder(self) -> None:
        config = AutoConfig.for_model(
            "t5", vocab_size=40, d_model=16, d_kv=4, d_ff=20, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
        with pytest.raises(LayoutError, match="encoder-decoder"):
            find_layout(AutoModelForSeq2SeqLM.from_config(config))

    def test_layers_that_cannot_be_located(self) -> None:
        model = build_pico("llama")
        model.model.layers = nn.ModuleList()
        with pytest.raises(LayoutError, match="cannot be located"):
            find_layout(model)

    def test_layers_under_an_undeclared_name_are_found_by_their_number(self) -> None:
        class RenamedForCausalLM(LlamaForCausalLM):
            def __init__(self, config: LlamaConfig) -> None:
                super().__init__(config)
                self.model.storeys = self.model.layers
                del self.model.layers
                self.vision_tower = nn.ModuleList(nn.Linear(3, 3) for _ in range(config.num_hidden_layers))

        layout = find_layout(RenamedForCausalLM(PICO_FAMILIES["llama"].config()))
        assert layout.layer_paths == tuple(f"model.storeys.{index}" for index in range(pico.LAYERS))
        assert len(layout.writers) == 2 * pico.LAYERS

    def test_layout_of_another_model(self) -> None:
        layout = find_layout(build_pico("llama"))
        with pytest.raises(LayoutError, match="no bias"):
            writer_bias(build_pico("qwen3"), layout.writers[0])


def test_finding_a_layout_changes_and_moves_nothing() -> None:
    model = build_pico("qwen3_next")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict().items()}
    find_layout(model)
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == before[name][0]
        assert torch.equal(tensor, before[name][1])
