"""How much of a writer's constant arrives in the residual stream."""

import pytest
import torch
from tests.models.pico import POST_NORM, build_pico, pico_names, pico_token_ids

from heretic.edits.writer import MLP, WriterKind
from heretic.models.arrival import constant_shares
from heretic.models.layout import find_layout

TOKENS = list(range(20, 45))


def last_linear(family: str, ending: str, dtype: torch.dtype = torch.float32) -> dict[int, float]:
    model = build_pico(family, dtype=dtype)
    layout = find_layout(model)
    writers = {writer.layer: writer for writer in layout.writers if writer.path.endswith(ending)}
    return constant_shares(model, layout, list(writers.values()), TOKENS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("family", "ending", "share"),
    [
        ("llama", "down_proj", 1.0),
        ("llama", "o_proj", 1.0),
        ("gpt2", "mlp.c_proj", 1.0),
        ("cohere", "o_proj", 1.0),
        ("falcon", "dense_4h_to_h", 1.0),
        ("granite", "down_proj", 0.3),
        ("granite", "o_proj", 0.3),
    ],
)
def test_constants_arrive_as_the_configuration_scales_them(
    family: str, ending: str, share: float, dtype: torch.dtype
) -> None:
    found = last_linear(family, ending, dtype)
    assert found == pytest.approx({0: share, 1: share, 2: share}, rel=0.01)


@pytest.mark.parametrize(
    ("family", "ending"),
    [("qwen2_moe", "shared_expert.down_proj"), *((family, "o_proj") for family in pico_names(POST_NORM))],
)
def test_gates_and_norms_let_no_constant_through(family: str, ending: str) -> None:
    assert last_linear(family, ending) == {}


def test_the_model_is_left_as_it_was() -> None:
    model = build_pico("llama")
    layout = find_layout(model)
    with torch.no_grad():
        before = model(pico_token_ids(), use_cache=False).logits
    writers = {w.layer: w for w in layout.writers if w.component == MLP and w.kind is WriterKind.LINEAR}
    constant_shares(model, layout, list(writers.values()), TOKENS)
    with torch.no_grad():
        assert torch.equal(model(pico_token_ids(), use_cache=False).logits, before)
