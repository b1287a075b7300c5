"""Ordered weights stand in the place of plain ones, which come back bit for bit whenever somebody needs them."""

import pytest
import torch
from torch import Tensor, nn

from heretic.models.access import put_back, same_bits, values_of
from heretic.models.private_api import ordered_weights_obstacle
from heretic.passes import packed
from heretic.passes.packed import PackedLinears

pytestmark = pytest.mark.skipif(
    ordered_weights_obstacle([torch.float32, torch.bfloat16]) is not None,
    reason="this processor or torch multiplies by no ordered weights",
)
SHAPES = ((1, 1), (3, 5), (7, 13), (65, 63), (33, 17), (1, 96), (96, 1), (100, 1001))
DTYPES = (torch.float32, torch.bfloat16)


class Tied(nn.Module):
    """Embeddings that are also the output's, and a layer between them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 24)
        self.inner = nn.Linear(24, 24)
        self.head = nn.Linear(24, 40, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.inner(self.embedding(ids)))
        return logits


def held_numbers(model: nn.Module) -> int:
    """How many numbers the parameters take in memory."""
    return sum(parameter.untyped_storage().nbytes() // parameter.element_size() for parameter in model.parameters())


def order(ordered: PackedLinears) -> None:
    """Have weights ordered, as a pass does."""
    with torch.inference_mode(), ordered.active():
        pass


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_any_shape_come_back_bit_for_bit(dtype: torch.dtype) -> None:
    model = nn.ModuleList(nn.Linear(columns, rows, bias=False) for rows, columns in SHAPES).to(dtype)
    special = torch.tensor([torch.nan, -torch.inf, -0.0, 1e-40], dtype=dtype)
    model[3].weight.data.view(-1)[:4] = special
    before = [parameter.data.clone() for parameter in model.parameters()]
    ordered = PackedLinears(model)
    order(ordered)
    assert ordered.holds == len(SHAPES)
    assert held_numbers(model) == len(SHAPES)
    assert [parameter.shape for parameter in model.parameters()] == [torch.Size(shape) for shape in SHAPES]
    assert all(same_bits(values_of(own), was) for own, was in zip(model.parameters(), before, strict=True))
    assert ordered.holds == len(SHAPES), "reading values changes nothing"
    ordered.give_back()
    assert all(same_bits(own.data, was) for own, was in zip(model.parameters(), before, strict=True))


def test_weights_may_be_written_to_after_they_were_ordered() -> None:
    model = nn.Linear(24, 8)
    ordered = PackedLinears(model)
    order(ordered)
    with pytest.raises(RuntimeError):
        model.weight.data.copy_(torch.ones(8, 24))
    put_back(model.parameters())
    model.weight.data.copy_(torch.ones(8, 24))
    order(ordered)
    assert torch.equal(values_of(model.weight), torch.ones(8, 24))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_that_is_called_otherwise_multiplies_by_its_plain_weights(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 8, bias=False)).to(dtype)
    inputs = torch.randn(5, 24, dtype=dtype)
    expected = model(inputs)
    ordered = PackedLinears(model)
    with torch.inference_mode(), ordered.active():
        torch.testing.assert_close(model(inputs), expected)
    assert ordered.holds == 2
    assert torch.equal(model(inputs), expected)
    assert ordered.holds == 0
    assert not any("forward" in module.__dict__ for module in model)


def test_what_other_layers_read_as_well_is_kept_in_both_orders() -> None:
    model, ids = Tied(), torch.arange(40)
    expected = model(ids)
    ordered = PackedLinears(model)
    with torch.inference_mode(), ordered.active():
        torch.testing.assert_close(model(ids), expected)
    assert ordered.holds == 1
    assert model.head.weight is model.embedding.weight
    assert torch.equal(model(ids), expected)


def test_what_would_not_come_back_is_kept_in_both_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_comes_back", lambda _ordered, weight: weight.shape != (8, 40))
    model = nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 8))
    inputs = torch.randn(5, 24)
    expected = model(inputs)
    ordered = PackedLinears(model)
    with torch.inference_mode(), ordered.active():
        torch.testing.assert_close(model(inputs), expected)
    assert ordered.holds == 1
    assert torch.equal(model(inputs), expected)


def test_two_may_order_the_same_weights_in_turns() -> None:
    model = nn.Linear(24, 8)
    before = model.weight.data.clone()
    first, second = PackedLinears(model), PackedLinears(model)
    order(first)
    order(second)
    assert (first.holds, second.holds) == (0, 1)
    put_back(model.parameters())
    assert torch.equal(model.weight.data, before)


def test_where_memory_runs_out_on_the_way_the_plain_weights_are_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 8))
    before = [parameter.data.clone() for parameter in model.parameters()]
    real = packed.ordered_weight

    def full(weight: Tensor, rows: int) -> Tensor:
        if weight.shape == (8, 40):
            raise MemoryError
        return real(weight, rows)

    monkeypatch.setattr(packed, "ordered_weight", full)
    ordered = PackedLinears(model)
    with pytest.raises(MemoryError), ordered.active():
        pass
    assert ordered.holds == 0
    assert all(torch.equal(own.data, was) for own, was in zip(model.parameters(), before, strict=True))


def test_without_room_for_the_largest_weight_none_is_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "free_host_memory", lambda: 1000)
    ordered = PackedLinears(nn.Linear(24, 8))
    assert "more than 40% of the free memory" in ordered.obstacle
    order(ordered)
    assert ordered.holds == 0
