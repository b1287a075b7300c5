import copy

import pytest
import torch
from tests.models.list_moe import PicoListMoeConfig, PicoListMoeForCausalLM
from tests.models.pico import build_pico, pico_token_ids
from tests.models.sizes import base_options
from tests.unit.editors.test_realisations import build, edits_for, plan_for
from torch import Tensor
from transformers import PreTrainedModel

from heretic.common.errors import ModelError
from heretic.editors.blend import WeightBlend, differing_weights, edited_weights
from heretic.editors.cache import WeightCache
from heretic.editors.editor import applied
from heretic.editors.inplace import InplaceEditor
from heretic.models.layout import find_layout
from heretic.results.plan import Normalization

FAMILIES = ("llama", "gpt2", "qwen3_moe", "gemma2")


def edited_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with noise on every residual writer."""
    copied = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    for writer in find_layout(copied).writers:
        weight = copied.get_parameter(writer.tensor_name)
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        weight.data += noise * weight.data.std() * 0.5
    return copied


@torch.inference_mode()
def logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    return model(ids).logits


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_one_batch_are_the_original_and_the_edited_model(name: str) -> None:
    model = build_pico(name)
    edited = edited_copy(model)
    ids = pico_token_ids(1)
    apart = [logits(model, ids), logits(edited, ids)]
    assert not torch.allclose(*apart, atol=1e-3)
    blend = WeightBlend(model, differing_weights(model, edited))
    assert blend.changed == len(find_layout(edited).writers)
    assert blend.mixes
    blend.use([0.0, 1.0])
    together = logits(model, ids.repeat(2, 1))
    torch.testing.assert_close(together[:1], apart[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[1:], apart[1], atol=1e-5, rtol=1e-4)
    # One strength for all rows is that model, bit for bit.
    blend.use([1.0])
    assert torch.equal(logits(model, ids), apart[1])
    blend.restore()
    assert torch.equal(logits(model, ids), apart[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_trial_is_its_edited_weights_and_leaves_the_model_as_it_was(name: str) -> None:
    model, layout = build(name)
    ids = pico_token_ids(1)
    before = copy.deepcopy(model.state_dict())
    editor = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    edits = edits_for(model, layout, plan_for(layout, Normalization.ROW))
    weights = edited_weights(model, editor, edits)
    assert set(weights) == {edit.writer.tensor_name for edit in edits}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with applied(editor, edits):
        expected = logits(model, ids)
    blend = WeightBlend(model, weights)
    blend.use([1.0])
    assert torch.equal(logits(model, ids), expected)


def test_strengths_between_and_beyond_lie_on_the_line_through_both() -> None:
    model = build_pico("llama")
    edited = edited_copy(model)
    ids = pico_token_ids(1)
    blend = WeightBlend(model, differing_weights(model, edited))
    strengths = [0.5, 1.5, 0.0]
    blend.use(strengths)
    rows = logits(model, ids.repeat(3, 1))
    for row, strength in zip(rows, strengths, strict=True):
        between = copy.deepcopy(edited)
        for name, value in between.named_parameters():
            own = model.get_parameter(name).data
            value.data = own + strength * (value.data - own)
        torch.testing.assert_close(row[None], logits(between, ids), atol=1e-5, rtol=1e-4)


def test_a_list_of_experts_takes_one_strength_at_a_time() -> None:
    torch.manual_seed(0)
    model = PicoListMoeForCausalLM(PicoListMoeConfig(**base_options())).eval()
    edited = edited_copy(model)
    ids = pico_token_ids(1)
    expected = logits(edited, ids)
    blend = WeightBlend(model, differing_weights(model, edited))
    assert not blend.mixes
    with pytest.raises(ValueError, match="strengths"):
        blend.use([0.0, 1.0])
    blend.use([1.0, 1.0])
    assert torch.equal(logits(model, ids), expected)


def test_biases_that_only_the_copy_has_belong_to_the_edit() -> None:
    model = build_pico("llama")
    edited = copy.deepcopy(model)
    writer = edited.get_submodule(find_layout(edited).writers[0].path)
    writer.bias = torch.nn.Parameter(torch.ones(writer.weight.shape[0]), requires_grad=False)
    ids = pico_token_ids(1)
    before, after = logits(model, ids), logits(edited, ids)
    blend = WeightBlend(model, differing_weights(model, edited))
    assert blend.changed == 1
    assert torch.equal(logits(model, ids), before)
    blend.use([0.0, 1.0])
    torch.testing.assert_close(logits(model, ids.repeat(2, 1))[1:], after, atol=1e-5, rtol=1e-4)


def test_another_model_is_no_edited_copy() -> None:
    with pytest.raises(ModelError, match="name the model"):
        differing_weights(build_pico("llama"), build_pico("gpt2"))
