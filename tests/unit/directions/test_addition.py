"""The sum of direction sets spans what each of them spans, and keeps the senses of the vectors."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.directions.direction_sets import LAYERS, random_set

from heretic.common.errors import UserError
from heretic.directions.addition import added
from heretic.directions.comparison import overlap


@settings(deadline=None, max_examples=20)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(100, 199)), ks=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_the_sum_spans_both_and_is_orthonormal(seeds: tuple[int, int], ks: tuple[int, int]) -> None:
    first, second = (random_set(seed, k) for seed, k in zip(seeds, ks, strict=True))
    total = added([first, second])
    assert total.count_per_layer == sum(ks)
    for part in (first, second):
        assert overlap(total, part)[1:].tolist() == pytest.approx([1] * LAYERS, abs=1e-4)
    gram = total.vectors @ total.vectors.mT
    torch.testing.assert_close(gram[1:], torch.eye(sum(ks)).expand(LAYERS, -1, -1), rtol=0, atol=1e-5)


def test_the_first_set_stays_and_later_ones_keep_their_sense() -> None:
    first, second = random_set(0, 2), random_set(1, 2)
    total = added([first, second])
    torch.testing.assert_close(total.vectors[:, :2], first.vectors, rtol=0, atol=1e-6)
    assert bool(((total.vectors[:, 2] * second.vectors[:, 0]).sum(-1) > 0).all())
    assert total.method == "(made up 0) + (made up 1)"


def test_weights_are_relative_to_the_largest() -> None:
    first = random_set(0, 2, weights=torch.tensor([[1.0, 0.5]]).expand(LAYERS + 1, -1))
    total = added([first, random_set(1, 2)], [-2.0, 1.0])
    for row in total.weights.tolist():
        assert row == pytest.approx([-1, -0.5, 0.5, 0.5])


def test_quality_is_the_weighted_mean() -> None:
    first, second = random_set(0), random_set(1)
    torch.testing.assert_close(added([first, second], [3, -1]).quality, (3 * first.quality + second.quality) / 4)


def test_what_lies_in_the_span_is_left_out() -> None:
    first = random_set(0, 2)
    assert added([first, first]).vectors.shape == first.vectors.shape
    # At one layer only: the others keep a direction there, this one has none, and no strength.
    second = random_set(1)
    vectors = second.vectors.clone()
    vectors[2, 0] = (first.vectors[2, 0] - first.vectors[2, 1]) / 2**0.5
    total = added([first, replace(second, vectors=vectors)])
    assert total.vectors[2, 2].norm() == 0
    assert total.weights[:, 2].tolist() == [0, 1, 0, 1]


def test_read_vectors_read_their_own_direction_and_no_other() -> None:
    first, second = random_set(0), random_set(1)
    generator = torch.Generator().manual_seed(7)
    reads = first.vectors + 0.3 * torch.randn(first.vectors.shape, generator=generator)
    reads = reads / (reads * first.vectors).sum(-1, keepdim=True).clamp_min(0.1)
    for order in ([replace(first, reads=reads), second], [second, replace(first, reads=reads)]):
        total = added(order)
        assert total.reads is not None
        response = (total.reads @ total.vectors.mT)[1:]
        torch.testing.assert_close(response, torch.eye(2).expand(LAYERS, -1, -1), rtol=0, atol=1e-4)
        # Both are combinations of what was read before: nothing else is asked of the residual.
        before = torch.cat([reads, second.vectors], dim=1)[1:].double()
        left = total.reads[1:].double()
        solution = torch.linalg.lstsq(before.mT, left.mT).solution
        torch.testing.assert_close(before.mT @ solution, left.mT, rtol=0, atol=1e-5)
    assert added([first, second]).reads is None


def test_read_vectors_that_cannot_be_told_apart_are_refused() -> None:
    first, second = random_set(0), random_set(1)
    with pytest.raises(UserError, match="at position 1 their read vectors do not tell them apart"):
        added([first, replace(second, reads=first.vectors)])


@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf")])
def test_weights_that_mean_nothing_are_refused(weight: float) -> None:
    with pytest.raises(UserError, match="numbers other than 0"):
        added([random_set(0), random_set(1)], [1.0, weight])
