"""A packed weight is unpacked to what the module itself computes with."""

import pytest
import torch
from torch import nn

from heretic.models.private_api import dequantized_weight
from heretic.models.storage import is_quantized, reason_against_editing, stored_weights

bitsandbytes = pytest.importorskip("bitsandbytes", reason="there are no bitsandbytes wheels for this system")

INPUT, OUTPUT = 64, 32


def packed(kind: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    weight = torch.randn(OUTPUT, INPUT)
    if kind == "4 bit":
        module = bitsandbytes.nn.Linear4bit(INPUT, OUTPUT, bias=False, compute_dtype=torch.float32)
        module.load_state_dict({"weight": weight})
    else:
        module = bitsandbytes.nn.Linear8bitLt(INPUT, OUTPUT, bias=False, has_fp16_weights=False)
        module.weight = bitsandbytes.nn.Int8Params(weight.clone(), requires_grad=False, has_fp16_weights=False)
    return module.to("cpu"), weight


@pytest.mark.parametrize(("kind", "error"), [("4 bit", 0.6), ("8 bit", 0.02)])
def test_unpacked_weight_is_what_the_module_computes_with(kind: str, error: float) -> None:
    module, original = packed(kind)
    assert is_quantized(module)
    before = dequantized_weight(module).float()
    with torch.no_grad():
        computed = module(torch.eye(INPUT)).T
    torch.testing.assert_close(before, computed, rtol=1e-5, atol=1e-5)
    # The first pass moves the 8-bit state from the weight to the module.
    assert torch.equal(dequantized_weight(module).float(), before)
    assert before.shape == (OUTPUT, INPUT)
    assert float((before - original).abs().max()) < error


def test_a_module_that_wraps_another_is_not_said_to_be_packed() -> None:
    class Wrapping(nn.Module):
        in_features, out_features = INPUT, OUTPUT

    (weight,) = stored_weights(Wrapping())
    reason = str(reason_against_editing(weight, OUTPUT))
    assert "Wrapping" in reason
    assert "packed" not in reason


def test_plain_modules_are_not_quantized() -> None:
    assert not is_quantized(nn.Linear(INPUT, OUTPUT))
