"""What is read of torch, transformers, PEFT and bitsandbytes beside their documented interfaces.

Of Optuna see `search.private_api`; of lm_eval `checks.harness` reads it all.

A release may rename or drop any of it without a word, as transformers 5.24 renamed the cache argument of every forward.
Each has a test in tests/unit/models/test_private_api.py that fails then and says what rests on it.
"""

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.pytorch_utils import Conv1D as Conv1D
from transformers.utils.hub import cached_file
from transformers.utils.hub import extract_commit_hash as extract_commit_hash
from transformers.utils.import_utils import is_vision_available as is_vision_available

CACHE_ARGUMENTS = ("cache", "past_key_values")
"""What a forward calls its cache: since transformers 5.24, and before (models' own code still does)."""
GENERATION_RULES = (
    "bad_words_ids",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "exponential_decay_length_penalty",
    "sequence_bias",
    "guidance_scale",
    "watermarking_config",
)
"""What a generation configuration may say of answers that only transformers' own generation heeds."""
_LAYER_INPUT = "hidden_states"
_ORDERED_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")


# Forwards.


def forward_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the arguments that a model's forward takes."""
    return frozenset(inspect.signature(model.forward).parameters)


def cache_argument(model: nn.Module) -> str | None:
    """Under which name a model's forward takes its cache, or None where it takes none."""
    parameters = forward_parameters(model)
    return next((name for name in CACHE_ARGUMENTS if name in parameters), None)


def layer_input(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
    """The residual stream [B, T, D] that a decoder layer is called with."""
    hidden_states: Tensor = arguments[0] if arguments else keywords[_LAYER_INPUT]
    return hidden_states


def with_layer_input(
    arguments: tuple[Any, ...], keywords: dict[str, Any], hidden_states: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a decoder layer with another residual stream."""
    if arguments:
        return (hidden_states, *arguments[1:]), keywords
    return arguments, {**keywords, _LAYER_INPUT: hidden_states}


def layer_output(output: Any) -> Tensor:
    """The residual stream that a decoder layer, or a part of one, gives; some give it first of several things."""
    hidden_states: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden_states


def with_layer_output(output: Any, hidden_states: Tensor) -> Any:
    """What a decoder layer gave, with another residual stream."""
    return (hidden_states, *output[1:]) if isinstance(output, tuple) else hidden_states


def override_forward(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    """Let a module run another forward; returns what undoes it.

    Whatever stood on the instance before is put back: accelerate keeps there what moves inputs between devices.
    """
    attributes = module.__dict__
    had_forward = "forward" in attributes
    forward_before = attributes.get("forward")
    attributes["forward"] = forward

    def undo() -> None:
        if had_forward:
            attributes["forward"] = forward_before
        else:
            attributes.pop("forward", None)

    return undo


def compile_obstacle(model: nn.Module, read: Callable[[], object]) -> str | None:
    """Compile a model; why this machine cannot, or None where it can. `read` calls the model, which compiles it."""
    from torch._dynamo.exc import TorchDynamoException

    # Batches differ in length: without `dynamic` every length would be compiled for itself.
    model.compile(dynamic=True)
    try:
        read()
    except TorchDynamoException as error:
        model._compiled_call_impl = None
        return str(error).partition("\n")[0]
    return None


# What a model is.


def attention_implementation(model: PreTrainedModel) -> str:
    """How a model computes its attention: ``sdpa``, ``eager``, ..."""
    return str(model.config._attn_implementation)


def is_stateful(model: PreTrainedModel) -> bool:
    """Whether a model carries a recurrent state, which cannot be masked or cut."""
    return bool(getattr(model, "_is_stateful", False))


def forget_quantization(model: PreTrainedModel) -> None:
    """Make a dequantised model an ordinary one.

    What some versions of transformers leave behind stops its saving or its loading again, each of these names alone;
    and by the conversions that its weights were read with they would be quantised again when they are saved.
    """
    untyped: Any = model
    for owner, name in (
        (untyped, "hf_quantizer"),
        (untyped, "quantization_method"),
        (untyped, "is_loaded_in_4bit"),
        (untyped, "is_loaded_in_8bit"),
        (untyped.config, "quantization_config"),
    ):
        if hasattr(owner, name):
            delattr(owner, name)
    untyped.is_quantized = False
    # Those of the model's class are taken then.
    untyped._weight_conversions = None


# Caches.


class GrowingCache(DynamicCache):
    """A cache for whose sake transformers does not look into the mask: that would wait for the device every step."""

    @property
    def is_compileable(self) -> bool:
        """What transformers asks before it does."""
        return True


def cache_obstacle(model: PreTrainedModel) -> str | None:
    """Why columns of a model's cache cannot be masked freely, or None where they can."""
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    others = sorted(kind.__name__ for kind in kinds - {DynamicLayer, DynamicSlidingWindowLayer})
    return f"its cache has layers of another kind ({', '.join(others)})" if others else None


def column_limit(model: PreTrainedModel) -> int | None:
    """Columns up to which every layer attends to everything, or None where there is no such limit."""
    layers = DynamicCache(config=model.config).layers
    windows = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    return min(windows, default=None)


def key_values(cache: Cache) -> tuple[tuple[Tensor, Tensor], ...]:
    """Keys and values of every layer, each [B, heads, C, d]."""
    layers: list[Any] = cache.layers
    return tuple((layer.keys, layer.values) for layer in layers)


def select_rows(cache: Cache, rows: Tensor) -> None:
    """Keep only these rows of a cache, in this order."""
    layers: list[Any] = cache.layers
    for layer in layers:  # each on the device of its part of the model
        layer.batch_select_indices(rows.to(layer.keys.device))


# Fused experts: what transformers' experts interface writes on the modules that it decorates.


def is_routed(experts: nn.Module) -> bool:
    """Whether fused experts take tokens with their routing; else each sees a block of rows of its own (Llama 4)."""
    return hasattr(experts, "is_transposed")


def is_gated(experts: nn.Module) -> bool:
    """Whether the first product of routed experts holds a gate."""
    return bool(experts.has_gate)


def is_transposed(experts: nn.Module) -> bool | None:
    """Whether the weights of fused experts are stored as [E, in, out]; None where the module does not say."""
    stated = getattr(experts, "is_transposed", None)
    return stated if isinstance(stated, bool) else None


def expert_activation(experts: Any, inner: Tensor) -> Tensor:
    """What stands between the two products of a routed expert."""
    activated: Tensor = experts._apply_gate(inner) if is_gated(experts) else experts.act_fn(inner)
    return activated


def has_expert_norm(experts: nn.Module) -> bool:
    """Whether every expert's output goes through a norm; none did before transformers 5.20."""
    return bool(getattr(experts, "has_post_expert_norm", False))


def expert_norm(experts: Any, output: Tensor) -> Tensor:
    """An expert's output as it is weighted and summed."""
    normed: Tensor = experts.post_expert_norm(output) if has_expert_norm(experts) else output
    return normed


# Weights in the order that a CPU's matrix products want. torch keeps these operators for its own compiler.


def ordered_weights_obstacle(dtypes: Collection[torch.dtype]) -> str | None:
    """Why this torch and this processor cannot multiply by weights that were ordered once, or None where they can."""
    backend: Any = torch.backends.mkldnn  # untyped in torch
    operators = torch.ops.mkldnn
    if not backend.is_available() or not all(hasattr(operators, name) for name in _ORDERED_OPERATORS):
        return "this PyTorch has no oneDNN operators for it"
    narrow = torch.backends.cpu.get_cpu_capability() == "AVX2" and set(dtypes) <= {torch.float32}
    if not narrow and not operators._is_mkldnn_bf16_supported():
        return "oneDNN has no fast products for this processor (on x86 it asks for AVX-512, in float32 for AVX2)"
    return None


def ordered_weight(weight: Tensor, rows: int) -> Tensor:
    """A copy of a weight [D, m] in the order that suits products with so many rows; others work, too."""
    ordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return ordered


def ordered_product(weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    """`nn.functional.linear` by an ordered weight."""
    output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return output


# Files.


def hub_file(source: str, name: str, revision: str | None, *, required: bool = True) -> str | None:
    """Path of a hub repository's file, from the hub or its cache; None where there is none and none is required.

    Raises:
        OSError: It is required, and missing or out of reach.
    """
    path: str | None = cached_file(
        source,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=required,
        _raise_exceptions_for_connection_errors=required,
    )
    return path


# GGUF files.


def gguf_keys(architecture: str) -> frozenset[str]:
    """Keys of a GGUF file of an architecture that transformers reads into configuration and tokenizer.

    Empty where it reads files of this architecture in another way, of which nothing is known here.
    """
    from transformers.modeling_gguf_pytorch_utils import GGUF_TO_TRANSFORMERS_MAPPING

    parts: Any = GGUF_TO_TRANSFORMERS_MAPPING
    configurations = parts["config"]
    names = (architecture, architecture.replace("moe", "_moe"), architecture.replace("-", "_"))
    mapping = next((configurations[name] for name in names if name in configurations), None)
    if mapping is None or architecture in _other_readers():
        return frozenset()
    tokenizer = [parts[part].get("tokenizer", {}) for part in ("tokenizer", "tokenizer_config")]
    return frozenset(f"{architecture}.{key}" for key, target in mapping.items() if target is not None).union(
        f"tokenizer.{key}" for keys in tokenizer for key in keys
    )


def gguf_tensors(model: PreTrainedModel, architecture: str) -> frozenset[str] | None:
    """Tensors of a GGUF file that go into a model, or None where transformers itself names those that do not."""
    if architecture in _other_readers():
        return None
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    processor = reader.TENSOR_PROCESSORS.get(architecture, reader.TensorProcessor)(config=model.config.to_dict())
    return frozenset(reader.get_gguf_hf_weights_map(model, processor))


def _other_readers() -> frozenset[str]:
    """Architectures that transformers reads by a second way, which it has since 5.2x."""
    try:
        reader: Any = importlib.import_module("transformers.integrations.gguf")
    except ImportError:
        return frozenset()
    return frozenset(reader.GGUF_CONFIG_ARCHS)


# PEFT.


def adapter_change(module: Any) -> Tensor:
    """B A of a module that PEFT has adapted, in the shape of its weight."""
    change: Tensor = module.get_delta_weight("default")
    return change


def adapter_row_norms(module: Any) -> Tensor:
    """The norms [D] that PEFT gives the rows of a module that it has adapted with DoRA."""
    norms: Tensor = module.lora_magnitude_vector["default"].weight
    return norms


def unadapted_weight(module: Any) -> Tensor:
    """The weight of a module beneath its adapter."""
    weight: Tensor = module.base_layer.weight
    return weight


# bitsandbytes.


def dequantized_weight(module: Any) -> Tensor:
    """The weight [D, m] of a bitsandbytes linear module in floating point."""
    import bitsandbytes.functional as bnb_functional

    weight = module.weight
    if hasattr(weight, "quant_state") and weight.quant_state is not None:
        result: Tensor = bnb_functional.dequantize_4bit(weight.data, weight.quant_state)
        return result
    # Row-wise absolute maxima scale the 8-bit codes; before the first forward pass they hang on the weight itself.
    scale = weight.SCB if weight.SCB is not None else module.state.SCB
    codes: Tensor = weight.CB if weight.CB is not None else weight.data
    weight_8bit: Tensor = codes.float() * scale.float()[:, None] / 127
    return weight_8bit
