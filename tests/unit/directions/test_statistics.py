"""Streaming gives what the whole data would give, and says where residuals stop being numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heretic.directions.statistics import ResidualMoments, covariance, merged
from heretic.directions.types import ResidualStatistics
from heretic.errors import ModelError

POSITIONS, SIZE = 3, 5


def random_residuals(count: int, seed: int, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor([0.01, 1.0, 30.0])[:, None]
    return torch.randn(count, POSITIONS, SIZE, generator=generator) * scales + shift


def streamed(residuals: Tensor, sizes: list[int], with_second_moment: bool = True) -> ResidualStatistics:
    moments = ResidualMoments(with_second_moment)
    for batch in residuals.split(sizes):
        moments.update(batch)
    return moments.finish("fingerprint")


@st.composite
def split_residuals(draw: st.DrawFn) -> tuple[Tensor, list[int]]:
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    shift = draw(st.sampled_from([0.0, -2.5, 7.0]))
    return random_residuals(sum(sizes), draw(st.integers(0, 2**20)), shift), sizes


@settings(max_examples=60, deadline=None)
@given(split_residuals())
def test_streamed_moments_equal_those_of_the_whole_data(data: tuple[Tensor, list[int]]) -> None:
    residuals, sizes = data
    statistics = streamed(residuals, sizes)
    whole = residuals.double()
    assert statistics.count == len(residuals)
    assert statistics.fingerprint == "fingerprint"
    torch.testing.assert_close(statistics.mean.double(), whole.mean(0), rtol=1e-5, atol=1e-5)
    expected = torch.einsum("nld,nle->lde", whole, whole) / len(whole)
    assert statistics.second_moment is not None
    torch.testing.assert_close(statistics.second_moment.double(), expected, rtol=1e-5, atol=1e-3)
    for position in range(POSITIONS):
        centred = torch.cov(whole[:, position].T, correction=0).reshape(SIZE, SIZE)
        found = covariance(statistics)[position].double()
        torch.testing.assert_close(found, centred, rtol=1e-4, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(split_residuals(), split_residuals())
def test_merging_two_equals_one_pass_over_both(
    first: tuple[Tensor, list[int]], second: tuple[Tensor, list[int]]
) -> None:
    both = streamed(torch.cat([first[0], second[0]]), first[1] + second[1])
    joined = merged(streamed(*first), streamed(*second))
    assert joined.count == both.count
    torch.testing.assert_close(joined.mean, both.mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(joined.second_moment, both.second_moment, rtol=1e-4, atol=1e-2)


def test_merging_drops_a_second_moment_that_only_one_has() -> None:
    residuals = random_residuals(6, 0)
    joined = merged(streamed(residuals, [6]), streamed(residuals, [6], with_second_moment=False))
    assert joined.second_moment is None
    assert joined.fingerprint == "fingerprint+fingerprint"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_are_kept_in_fp32_whatever_the_models_dtype(dtype: torch.dtype) -> None:
    """In half precision a sum of 3,000 ones would stop growing, and one of 60,000s would overflow."""
    moments = ResidualMoments(with_second_moment=True)
    for _ in range(30):
        moments.update(torch.full((100, 1, 2), 1.0, dtype=dtype))
        moments.update(torch.full((100, 1, 2), 60_000.0, dtype=dtype))
    statistics = moments.finish("")
    large = float(torch.tensor(60_000.0, dtype=dtype))
    assert statistics.mean.dtype == torch.float32
    torch.testing.assert_close(statistics.mean, torch.full((1, 2), (1 + large) / 2))
    torch.testing.assert_close(statistics.second_moment, torch.full((1, 2, 2), (1 + large**2) / 2))


@pytest.mark.xfail(
    strict=True, reason="an uncentred second moment in fp32 loses a variance that is small against the mean"
)
def test_covariance_survives_a_mean_that_is_large_against_the_spread() -> None:
    """Some residual dimensions of real models sit at thousands in every prompt and vary by ones."""
    generator = torch.Generator().manual_seed(0)
    residuals = torch.randn(400, 1, 4, generator=generator) + torch.tensor([5000.0, 0.0, -3000.0, 10.0])
    found = covariance(streamed(residuals, [50] * 8))[0].double()
    expected = torch.cov(residuals[:, 0].double().T, correction=0)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("position", range(POSITIONS))
def test_residuals_that_are_not_finite_name_the_first_position(bad: float, position: int) -> None:
    residuals = random_residuals(7, 1)
    residuals[3, position:, 2] = bad
    moments = ResidualMoments()
    for batch in residuals.split(2):
        moments.update(batch)
    with pytest.raises(ModelError, match=f"not finite from position {position} on"):
        moments.finish("")


def test_no_prompts_is_an_error() -> None:
    with pytest.raises(ModelError, match="at least one prompt"):
        ResidualMoments().finish("")


def test_covariance_needs_a_second_moment() -> None:
    with pytest.raises(ValueError, match="no second moment"):
        covariance(streamed(random_residuals(3, 0), [3], with_second_moment=False))


def tensors_held(moments: ResidualMoments) -> list[Tensor]:
    return [value for value in vars(moments).values() if isinstance(value, Tensor)]


def test_what_is_held_does_not_grow_with_the_prompts() -> None:
    moments = ResidualMoments(with_second_moment=True)
    sizes = []
    for seed in range(5):
        moments.update(random_residuals(40, seed))
        sizes.append(sum(tensor.untyped_storage().nbytes() for tensor in tensors_held(moments)))
        assert not any(isinstance(value, (list, tuple, dict)) for value in vars(moments).values())
    assert len(set(sizes)) == 1
    assert sizes[0] <= 4 * POSITIONS * SIZE * (SIZE + 2)


def test_an_update_leaves_the_batch_and_earlier_results_alone() -> None:
    batch = random_residuals(4, 0)
    before = batch.clone()
    moments = ResidualMoments(with_second_moment=True)
    moments.update(batch)
    first = moments.finish("")
    mean, second_moment = first.mean.clone(), first.second_moment.clone()
    moments.update(random_residuals(4, 1))
    assert torch.equal(batch, before)
    assert torch.equal(first.mean, mean)
    assert torch.equal(first.second_moment, second_moment)
