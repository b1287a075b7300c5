from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.models.pico import EOS, PAD, PICO_FAMILIES, build_family, pico_token_ids, pico_tokenizer
from tests.unit.models.gguf_file import write_gguf
from tests.unit.models.model_folder import LoadSettings
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.quantizers import HfQuantizer

from heretic.common.errors import ModelError
from heretic.models.gguf import llama3_scaling, without_gguf_traces
from heretic.models.loader import load_model
from heretic.observability.events import Warned, subscribed

# Rows of whole blocks of 32 numbers, so that every matrix is quantised.
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}


@pytest.fixture
def original():
    family = PICO_FAMILIES["qwen2"]
    return build_family(replace(family, options={**family.options, **SIZES}))


def test_the_weights_are_those_of_the_file(tmp_path, original):
    write_gguf(tmp_path / "tiny.gguf", original, pico_tokenizer(), "F32")
    loaded = load_model(str(tmp_path / "tiny.gguf"), LoadSettings())
    ids = pico_token_ids()
    torch.testing.assert_close(loaded.model(ids).logits, original(ids).logits)
    assert loaded.name.endswith("tiny.gguf")
    assert loaded.source == str(tmp_path)


def test_quantised_weights_become_ordinary_ones(tmp_path, original):
    write_gguf(tmp_path / "tiny.gguf", original, pico_tokenizer())
    loaded = load_model(str(tmp_path / "tiny.gguf"), LoadSettings())
    assert loaded.quantization == "none"
    expected = original.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert tensor.dtype == torch.float32
        # Q8_0 keeps the largest of 32 numbers as 127 steps.
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=float(expected[name].abs().max()) / 127)
    assert type(loaded.model.model.layers[0].mlp.down_proj) is torch.nn.Linear


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_it_is_saved_as_an_ordinary_model(tmp_path, original, dtype):
    write_gguf(tmp_path / "tiny.gguf", original, pico_tokenizer())
    loaded = load_model(str(tmp_path / "tiny.gguf"), LoadSettings(dtypes=(dtype,)))
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    assert "gguf" not in (tmp_path / "saved" / "config.json").read_text(encoding="utf-8").lower()
    again = load_model(str(tmp_path / "saved"), LoadSettings())
    assert again.dtype == loaded.dtype
    assert type(again.model) is type(loaded.model)
    ids = pico_token_ids()
    assert torch.equal(again.model(ids).logits, loaded.model(ids).logits)
    text = "<|user|>Round trip, please.<|end|>"
    assert again.tokenizer(text)["input_ids"] == loaded.tokenizer(text)["input_ids"]
    assert again.tokenizer.decode(again.tokenizer(text)["input_ids"]) == text


def test_what_some_versions_of_transformers_leave_behind_is_removed(tmp_path, original):
    tokenizer = pico_tokenizer()
    original.hf_quantizer = GgufQuantizer()
    original.quantization_method = "gguf"
    original.config.quantization_config = {"quant_method": "gguf"}
    original.generation_config.eos_token_id = None
    without_gguf_traces(original, tokenizer)
    original.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "quantization_config" not in (tmp_path / "config.json").read_text(encoding="utf-8")
    again = load_model(str(tmp_path), LoadSettings()).model
    assert again.generation_config.eos_token_id == EOS
    ids = pico_token_ids()
    torch.testing.assert_close(again(ids).logits, original(ids).logits)


class GgufQuantizer(HfQuantizer):
    """A quantizer that cannot be saved, which `save_pretrained` refuses."""

    def __init__(self):
        self.quantization_config = SimpleNamespace(quant_method="gguf")

    def is_serializable(self, *_args, **_options):
        return False

    @property
    def is_trainable(self):
        return False

    def _process_model_before_weight_loading(self, model, **_options):
        return model

    def _process_model_after_weight_loading(self, model, **_options):
        return model


def test_tokenizer_and_end_token_come_from_the_file(tmp_path, original):
    tokenizer = pico_tokenizer()
    write_gguf(tmp_path / "tiny.gguf", original, tokenizer)
    loaded = load_model(str(tmp_path / "tiny.gguf"), LoadSettings())
    assert loaded.tokenizer.chat_template == tokenizer.chat_template
    assert loaded.tokenizer.padding_side == "left"
    generation = loaded.model.generation_config
    assert (generation.eos_token_id, generation.pad_token_id) == (EOS, PAD)


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def with_rope(original, **rope):
    """The same weights under other rotary positions, and what these multiply the usual frequencies by."""
    config = type(original.config)(**{**original.config.to_dict(), "rope_parameters": {"rope_theta": 10000.0, **rope}})
    model = type(original)(config).eval()
    model.load_state_dict(original.state_dict())
    return model, original.model.rotary_emb.inv_freq / model.model.rotary_emb.inv_freq


def test_the_scaling_of_llama_3_is_restored_from_its_factors(tmp_path, original):
    scaled, factors = with_rope(original, rope_type="llama3", **LLAMA3)
    assert not torch.equal(scaled(pico_token_ids()).logits, original(pico_token_ids()).logits)
    write_gguf(
        tmp_path / "x.gguf", original, pico_tokenizer(), "F32", tensors={"rope_freqs.weight": factors.float().numpy()}
    )
    loaded = load_model(str(tmp_path / "x.gguf"), LoadSettings())
    assert loaded.model.config.rope_parameters == {"rope_type": "llama3", "rope_theta": 10000.0, **LLAMA3}
    ids = pico_token_ids(length=200)
    torch.testing.assert_close(loaded.model(ids).logits, scaled(ids).logits)


@pytest.mark.parametrize(
    ("theta", "head", "context"), [(500000.0, 128, 8192), (500000.0, 64, 8192), (10000.0, 32, 512)]
)
def test_parameters_of_llama_3_are_those_that_the_factors_were_made_of(theta, head, context):
    expected = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    expected = {"rope_type": "llama3", **expected, "original_max_position_embeddings": context}
    config = LlamaConfig(head_dim=head, rope_parameters={"rope_theta": theta, **expected})
    plain = 1 / theta ** (torch.arange(0, head, 2, dtype=torch.float64) / head)
    factors = plain / ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0].double()
    assert llama3_scaling(factors, theta, head, 1) == expected


@pytest.mark.parametrize("head", [8, 12])
def test_few_factors_give_parameters_that_make_the_same_factors(head):
    def factors(rope):
        config = LlamaConfig(head_dim=head, rope_parameters={"rope_theta": 500000.0, **rope})
        plain = 1 / 500000.0 ** (torch.arange(0, head, 2, dtype=torch.float64) / head)
        return plain / ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0].double()

    expected = factors({"rope_type": "llama3", **LLAMA3})
    scaling = llama3_scaling(expected, 500000.0, head, 8192)
    torch.testing.assert_close(factors(scaling), expected, rtol=1e-3, atol=0)


def test_factors_that_change_nothing_and_factors_of_others():
    assert llama3_scaling(torch.ones(8), 10000.0, 16, 64) == {}
    assert llama3_scaling(torch.linspace(1, 9, 8), 10000.0, 16, 64) is None
    assert llama3_scaling(torch.full((8,), torch.inf), 10000.0, 16, 64) is None


@pytest.mark.parametrize(
    ("keys", "tensors"),
    [
        ({}, {"rope_freqs.weight": np.linspace(1, 9, 8, dtype=np.float32)}),
        ({}, {"rope_factors_long.weight": np.ones(8, dtype=np.float32)}),
        ({"qwen2.rope.scaling.type": "longrope"}, {}),
        ({"qwen2.rope.scaling.type": "newrope"}, {}),
    ],
)
def test_scaling_that_cannot_be_restored_is_refused(tmp_path, original, keys, tensors):
    write_gguf(tmp_path / "x.gguf", original, pico_tokenizer(), keys=keys, tensors=tensors)
    with pytest.raises(ModelError, match="rotary positions"):
        load_model(str(tmp_path / "x.gguf"), LoadSettings())


def test_yarn_is_restored_and_what_nobody_uses_is_named_once(tmp_path, original):
    keys = {
        "qwen2.rope.scaling.type": "yarn",
        "qwen2.rope.scaling.factor": 4.0,
        "qwen2.rope.scaling.original_context_length": 128.0,
        "qwen2.attention.strange": 2.0,
        "general.url": "somewhere",
    }
    scaled, _ = with_rope(original, rope_type="yarn", factor=4.0, original_max_position_embeddings=128)
    tensors = {"blk.0.attn_sinks.weight": np.ones(4, dtype=np.float32)}
    write_gguf(tmp_path / "x.gguf", original, pico_tokenizer(), "F32", keys=keys, tensors=tensors)
    said = []
    with subscribed(said.append):
        loaded = load_model(str(tmp_path / "x.gguf"), LoadSettings())
    ids = pico_token_ids(length=200)
    torch.testing.assert_close(loaded.model(ids).logits, scaled(ids).logits)
    (warning,) = [event.message for event in said if isinstance(event, Warned)]
    assert {"qwen2.attention.strange", "blk.0.attn_sinks.weight"} <= set(
        warning.removesuffix(".").replace(",", "").split()
    )
    assert not any(name in warning for name in ("rope.scaling", "general", "block_count", "attn_q"))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model"])
def test_a_damaged_file_is_an_error(tmp_path, content):
    (tmp_path / "broken.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.gguf"):
        load_model(str(tmp_path / "broken.gguf"), LoadSettings())


def test_half_a_file_is_an_error(tmp_path, original):
    path = tmp_path / "half.gguf"
    write_gguf(path, original, pico_tokenizer())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match=r"half\.gguf"):
        load_model(str(path), LoadSettings())


def test_quantization_of_a_dequantised_file_is_refused(tmp_path, original):
    write_gguf(tmp_path / "tiny.gguf", original, pico_tokenizer())
    with pytest.raises(ModelError, match="use --quantization none"):
        load_model(str(tmp_path / "tiny.gguf"), LoadSettings(quantization="bnb_4bit"))
