"""Each undocumented thing that `models.private_api` reads is still there and still means the same.

A test that fails after an upgrade says what rests on it; mend it in `models/private_api.py`, for both versions.
"""

import inspect
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.models.pico import FUSED_IN_OUT, FUSED_OUT_IN, PICO_FAMILIES, build_pico, pico_names
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig, PreTrainedModel

from heretic.models import private_api
from heretic.models.decoder import find_decoder

pytestmark = pytest.mark.versions

TOKENS = torch.tensor([[5, 9, 11, 7], [8, 6, 5, 13]])


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return build_pico("llama")


# Forwards.


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral", "falcon"])
def test_a_forward_takes_a_cache_under_a_known_name(family: str) -> None:
    """Without it every model is read by ordinary passes: a trial takes about twice as long."""
    model = build_pico(family)
    name = private_api.cache_argument(model)
    assert name is not None, f"the cache is none of {private_api.CACHE_ARGUMENTS} any more; passes.ragged needs it"
    cache = private_api.GrowingCache()
    with torch.no_grad():
        whole = model(input_ids=TOKENS, use_cache=False).logits
        model(input_ids=TOKENS[:, :2], use_cache=True, **{name: cache})
        behind = model(input_ids=TOKENS[:, 2:], use_cache=True, **{name: cache}).logits
    torch.testing.assert_close(behind, whole[:, 2:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", private_api.CACHE_ARGUMENTS)
def test_models_with_code_of_their_own_may_keep_the_name_of_another_release(name: str) -> None:
    class Own(nn.Module):
        pass

    def forward(self: nn.Module, input_ids: Tensor) -> None: ...

    taken = inspect.signature(forward)
    cache = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
    Own.forward = forward
    assert private_api.cache_argument(Own()) is None
    forward.__signature__ = taken.replace(parameters=[*taken.parameters.values(), cache])  # type: ignore[attr-defined]
    assert private_api.cache_argument(Own()) == name
    assert private_api.forward_parameters(Own()) == {"input_ids", name}


def test_forwards_name_what_passes_give_them(llama: PreTrainedModel) -> None:
    """Left-padded and ragged rows need positions; without logits_to_keep every position goes through the vocabulary."""
    needed = {"input_ids", "attention_mask", "position_ids", "logits_to_keep"}
    assert needed <= private_api.forward_parameters(llama), "passes.runner and passes.ragged give these"


@pytest.mark.parametrize("family", pico_names())
def test_decoder_layers_are_called_with_the_residual_stream_and_give_it_first(family: str) -> None:
    """Residuals, kept lower layers and steering read and replace it there."""
    model = build_pico(family)
    layers = find_decoder(model).layers
    seen: list[tuple[str, Tensor]] = []

    def before(_module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, Any]:
        seen.append(("in", private_api.layer_input(arguments, keywords)))
        return private_api.with_layer_input(arguments, keywords, seen[-1][1] + 1)

    def after(_module: nn.Module, _arguments: object, output: Any) -> Any:
        seen.append(("out", private_api.layer_output(output)))
        return private_api.with_layer_output(output, seen[-1][1] * 2)

    layers[0].register_forward_hook(after)
    layers[1].register_forward_pre_hook(before, with_kwargs=True)
    layers[1].register_forward_pre_hook(
        lambda _module, arguments, keywords: seen.append(("in", private_api.layer_input(arguments, keywords))),
        with_kwargs=True,
    )
    with torch.no_grad():
        model(input_ids=TOKENS, use_cache=False)
    (_, first), (_, doubled), (_, added) = seen
    assert first.shape == (*TOKENS.shape, find_decoder(model).hidden_size)
    torch.testing.assert_close(doubled, first * 2)
    torch.testing.assert_close(added, first * 2 + 1)


def test_the_class_forward_comes_back() -> None:
    module = nn.Linear(2, 2)
    ones = torch.ones(1, 2)
    expected = module(ones)
    undo = private_api.override_forward(module, lambda inputs: inputs * 5)
    assert torch.equal(module(ones), ones * 5)
    undo()
    assert torch.equal(module(ones), expected)
    assert "forward" not in module.__dict__


def test_a_forward_of_the_instance_comes_back() -> None:
    """accelerate moves inputs between devices by such an attribute."""
    module = nn.Linear(2, 2)
    module.forward = lambda inputs: inputs * 3
    undo = private_api.override_forward(module, lambda inputs: inputs * 5)
    assert torch.equal(module(torch.ones(1, 2)), torch.full((1, 2), 5.0))
    undo()
    assert torch.equal(module(torch.ones(1, 2)), torch.full((1, 2), 3.0))


def test_accelerate_keeps_its_forward_on_the_instance() -> None:
    """Else `override_forward` would leave the module without what moves its inputs."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Tripled(ModelHook):
        def post_forward(self, module: nn.Module, output: Tensor) -> Tensor:
            return output * 3

    module = add_hook_to_module(nn.Linear(2, 2), Tripled())
    expected = module(torch.ones(1, 2))
    undo = private_api.override_forward(module, lambda inputs: inputs * 5)
    assert torch.equal(module(torch.ones(1, 2)), torch.full((1, 2), 5.0))
    undo()
    assert torch.equal(module(torch.ones(1, 2)), expected)


def test_a_model_that_cannot_be_compiled_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slim containers have no C++ compiler. What torch raises then is of this kind."""
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    module, ones = nn.Linear(2, 2), torch.ones(1, 2)
    expected = module(ones)

    def read() -> None:
        assert module._compiled_call_impl is not None, "`compile` keeps what it compiled elsewhere now"
        raise InductorError(InvalidCxxCompiler(), inspect.currentframe())

    obstacle = private_api.compile_obstacle(module, read)
    assert obstacle is not None
    assert obstacle.startswith("InvalidCxxCompiler: ")
    assert "\n" not in obstacle
    assert torch.equal(module(ones), expected)
    assert private_api.compile_obstacle(module, lambda: None) is None


# What a model is.


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_model_says_how_it_computes_attention(llama: PreTrainedModel, implementation: str) -> None:
    """Ragged passes mask the cache only where this allows it, and a saved folder is loaded again in the same way."""
    model = AutoModelForCausalLM.from_config(deepcopy(llama.config), attn_implementation=implementation)
    assert private_api.attention_implementation(model) == implementation


@pytest.mark.parametrize(
    ("family", "stateful"), [("llama", False), ("recurrent_gemma", True), ("jamba", True), ("falcon_h1", True)]
)
def test_a_recurrent_state_is_noticed(family: str, stateful: bool) -> None:
    """Such a state cannot be masked, so ragged passes would give wrong predictions."""
    model = build_pico(family)
    noticed = private_api.is_stateful(model) or private_api.cache_obstacle(model) is not None
    assert noticed is stateful
    if not stateful:
        assert model._is_stateful is False, "`_is_stateful` went, so passes.ragged no longer asks for it"


@pytest.mark.parametrize("rule", private_api.GENERATION_RULES)
def test_generation_configurations_know_every_rule_that_is_looked_for(rule: str) -> None:
    """A rule under another name would not be heeded by the engine, whose answers would differ from generate's."""
    assert rule in vars(GenerationConfig())


def test_weights_that_were_converted_while_loading_are_saved_as_they_are(tmp_path: Path) -> None:
    """What was dequantised would be quantised again, by the conversions that the model remembers."""
    model = build_pico("llama")
    model.save_pretrained(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert hasattr(loaded, "_weight_conversions"), "models.stored_forms makes a loaded model forget these"
    loaded._weight_conversions = [SimpleNamespace()]
    private_api.forget_quantization(loaded)
    loaded.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(TOKENS).logits, model(TOKENS).logits)


# Caches.


def test_the_growing_cache_keeps_transformers_from_looking_into_the_mask(llama: PreTrainedModel) -> None:
    """`is_compileable` is what it asks; on a GPU to look into the mask would be to wait in every step."""
    model = AutoModelForCausalLM.from_config(deepcopy(llama.config), attn_implementation="sdpa")
    masks: list[Tensor | None] = []
    find_decoder(model).layers[0].register_forward_pre_hook(
        lambda _module, _arguments, keywords: masks.append(keywords["attention_mask"]), with_kwargs=True
    )
    name = private_api.cache_argument(model)
    seen = torch.ones(2, 5, dtype=torch.long)
    for cache in (DynamicCache(config=model.config), private_api.GrowingCache()):
        with torch.no_grad():
            model(input_ids=TOKENS, use_cache=True, **{name: cache})
            model(input_ids=TOKENS[:, :1], attention_mask=seen, use_cache=True, **{name: cache})
    # Where it looks and finds nothing masked, the layers get no mask.
    assert masks[1] is None
    assert masks[3] is not None


def test_caches_tell_their_layers(llama: PreTrainedModel) -> None:
    """Shared prefixes and kept lower layers are made of a cache's keys and values; finished rows leave it."""
    cache = private_api.GrowingCache()
    with torch.no_grad():
        llama(input_ids=TOKENS, use_cache=True, **{private_api.cache_argument(llama): cache})
    before = private_api.key_values(cache)
    assert len(before) == llama.config.num_hidden_layers
    assert all(part.shape[0] == 2 and part.shape[2] == 4 for pair in before for part in pair)
    private_api.select_rows(cache, torch.tensor([1]))
    for old, new in zip(before, private_api.key_values(cache), strict=True):
        assert all(torch.equal(part[1:], kept) for part, kept in zip(old, new, strict=True))


@pytest.mark.parametrize(("family", "window"), [("llama", None), ("mistral", 16), ("gemma2", 16)])
def test_sliding_windows_are_found(family: str, window: int | None) -> None:
    """Ragged rows leave gaps in the cache, which a narrower window would count."""
    model = build_pico(family)
    assert private_api.column_limit(model) == window
    assert private_api.cache_obstacle(model) is None


def test_a_cache_with_other_layers_is_named() -> None:
    obstacle = private_api.cache_obstacle(build_pico("lfm2"))
    assert obstacle is not None
    assert obstacle.startswith("its cache has layers of another kind (")


# Fused experts.


def experts_of(model: PreTrainedModel) -> list[nn.Module]:
    """Not the convolutions, whose weights have three axes as well."""
    return [
        module
        for module in model.modules()
        if not isinstance(module, nn.Conv1d) and any(own.dim() == 3 for own in module.parameters(recurse=False))
    ]


@pytest.mark.parametrize("family", [*pico_names(FUSED_OUT_IN), *pico_names(FUSED_IN_OUT)])
def test_fused_experts_say_how_they_work(family: str) -> None:
    """Edits on outputs take experts apart, so a wrong answer is a wrong edit."""
    found = experts_of(build_pico(family))
    assert found
    for experts in found:
        assert private_api.is_routed(experts) is (family != "llama4_text")
        if private_api.is_routed(experts):
            assert private_api.is_transposed(experts) is (FUSED_IN_OUT in PICO_FAMILIES[family].traits)
            assert hasattr(experts, "gate_up_proj" if private_api.is_gated(experts) else "up_proj")
            inner = torch.ones(1, experts.gate_up_proj.shape[-1 if private_api.is_transposed(experts) else -2])
            # Of a gate and a value one is left.
            assert private_api.expert_activation(experts, inner).shape == (1, inner.shape[-1] // 2)
            assert not private_api.has_expert_norm(experts)


def test_ungated_experts_and_norms_of_experts_are_heeded() -> None:
    class Experts(nn.Module):
        is_transposed, has_gate, has_post_expert_norm = False, False, True
        act_fn = nn.ReLU()
        post_expert_norm = nn.Identity()

    experts = Experts()
    assert (private_api.is_routed(experts), private_api.is_gated(experts)) == (True, False)
    assert torch.equal(private_api.expert_activation(experts, torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))
    assert private_api.has_expert_norm(experts)
    assert torch.equal(private_api.expert_norm(experts, torch.ones(2)), torch.ones(2))
    assert private_api.is_transposed(nn.Linear(2, 2)) is None


# Ordered weights.


def test_ordered_weights_multiply_as_ordinary_ones_do() -> None:
    """Without them a trial on a CPU takes about a third longer (benchmarks/README.md)."""
    backend: Any = torch.backends.mkldnn
    if backend.is_available():
        missing = [name for name in private_api._ORDERED_OPERATORS if not hasattr(torch.ops.mkldnn, name)]
        assert not missing, "torch has other operators for ordered weights now; passes.packed rests on them"
    obstacle = private_api.ordered_weights_obstacle([torch.float32, torch.bfloat16])
    if obstacle is not None:
        pytest.skip(obstacle)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        weight, bias, inputs = (torch.randn(shape).to(dtype) for shape in ((24, 16), (24,), (2, 3, 16)))
        ordered = private_api.ordered_weight(weight, 128)
        for own in (bias, None):
            expected = nn.functional.linear(inputs, weight, own)
            found = private_api.ordered_product(ordered, own, inputs)
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_a_processor_without_fast_products_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_api, "_ORDERED_OPERATORS", ("_no_such_operator",))
    assert private_api.ordered_weights_obstacle([torch.float32]) == "this PyTorch has no oneDNN operators for it"


def test_float32_asks_for_less_of_a_processor_than_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """AVX2 multiplies by ordered weights in float32: 1.0 to 3.5 times as fast for 8 to 128 rows."""
    operators = SimpleNamespace(_is_mkldnn_bf16_supported=lambda: False, _reorder_linear_weight=1, _linear_pointwise=1)
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert private_api.ordered_weights_obstacle([torch.float32]) is None
    assert private_api.ordered_weights_obstacle([torch.float32, torch.bfloat16]) is not None
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert private_api.ordered_weights_obstacle([torch.float32]) is not None


# Files.


def test_a_file_that_a_repository_lacks_is_none_where_none_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders tell what they lack in the same way as repositories; whether weights are pickled is found out by it."""
    (tmp_path / "config.json").write_text("{}")
    assert private_api.hub_file(str(tmp_path), "config.json", None) == str(tmp_path / "config.json")
    assert private_api.hub_file(str(tmp_path), "adapter_config.json", None, required=False) is None
    with pytest.raises(OSError, match=r"adapter_config\.json"):
        private_api.hub_file(str(tmp_path), "adapter_config.json", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert private_api.hub_file("nobody/nothing", "adapter_config.json", None, required=False) is None


def test_a_hub_files_commit_is_read_from_its_path() -> None:
    """The commit is what a manifest names, and what later downloads are pinned to."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    path = f"/cache/models--owner--name/snapshots/{commit}/config.json"
    assert private_api.extract_commit_hash(path, None) == commit
    assert private_api.extract_commit_hash("/somewhere/config.json", None) is None


def test_auto_classes_map_model_types_to_classes() -> None:
    """Which of both auto classes loads a model is decided by them."""
    assert private_api.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["llama"] == "LlamaForCausalLM"
    assert private_api.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["llava"] == "LlavaForConditionalGeneration"
    assert "llava" not in private_api.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    assert private_api.is_vision_available(), "Pillow is a dependency, so vision-language models load"


def test_conv1d_stores_its_weight_transposed() -> None:
    """GPT-2's layers: which axis is the output decides what an edit changes."""
    module = private_api.Conv1D(3, 2)
    assert (module.nf, module.nx, tuple(module.weight.shape)) == (3, 2, (2, 3))


# PEFT.


def test_what_transformers_reads_of_a_gguf_file_is_known() -> None:
    """`models.gguf` names what of a file nobody uses."""
    keys = private_api.gguf_keys("llama")
    assert {"llama.block_count", "llama.rope.freq_base", "tokenizer.ggml.tokens"} <= keys
    assert not any(key.startswith("llama.rope.scaling") for key in keys)
    assert private_api.gguf_keys("nothing") == frozenset()
    tensors = private_api.gguf_tensors(build_pico("llama"), "llama")
    assert {"token_embd.weight", "blk.0.attn_q.weight", "output_norm.weight"} <= tensors
    assert "rope_freqs.weight" not in tensors


def test_an_adapted_module_tells_its_change_and_its_own_weight() -> None:
    """A saved adapter is verified by them."""
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    before = model[0].weight.detach().clone()
    adapted: Any = get_peft_model(model, LoraConfig(r=2, lora_alpha=2, target_modules=["0"], init_lora_weights=False))
    module = adapted.base_model.model[0]
    change = private_api.adapter_change(module)
    torch.testing.assert_close(private_api.unadapted_weight(module), before)
    inputs = torch.randn(5, 4)
    torch.testing.assert_close(module(inputs), inputs @ (before + change).T)


def test_an_adapted_module_tells_the_norms_that_its_rows_get() -> None:
    """Of a saved adapter that keeps norms; rows of zeros stay so."""
    model = nn.Sequential(nn.Linear(4, 3))
    before, bias = model[0].weight.detach().clone(), model[0].bias.detach().clone()
    configuration = LoraConfig(r=2, lora_alpha=2, target_modules=["0"], init_lora_weights=False, use_dora=True)
    module = get_peft_model(model, configuration).base_model.model[0]
    norms = private_api.adapter_row_norms(module)
    with torch.no_grad():
        norms.copy_(torch.tensor([0.0, 1.0, 2.0]))
    changed = before + private_api.adapter_change(module)
    expected = changed * (norms / changed.norm(dim=1))[:, None]
    inputs = torch.randn(5, 4)
    torch.testing.assert_close(module(inputs), inputs @ expected.T + bias)
