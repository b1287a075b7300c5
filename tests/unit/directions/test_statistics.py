"""Streaming gives what the whole data would give, and says where residuals stop being numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heretic.common.errors import ModelError
from heretic.directions import statistics as statistics_module
from heretic.directions.statistics import ResidualMoments, required_covariance, required_residuals, widest_dtype
from heretic.directions.types import ResidualStatistics

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
    covariance = required_covariance(statistics)
    assert covariance.dtype == torch.float32
    for position in range(POSITIONS):
        centred = torch.cov(whole[:, position].T, correction=0).reshape(SIZE, SIZE)
        # A covariance of 1e-4 (the first position) is found as exactly as one of 1000.
        torch.testing.assert_close(covariance[position].double(), centred, rtol=1e-4, atol=1e-5 * float(centred.max()))


def assert_covariances_close(found: Tensor, expected: Tensor) -> None:
    """Relative to the largest entry of each position."""
    scale = expected.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moments_are_kept_in_fp32_whatever_the_models_dtype(dtype: torch.dtype) -> None:
    """In half precision a sum of 3,000 ones would stop growing, and one of 60,000s would overflow."""
    moments = ResidualMoments(with_second_moment=True)
    for _ in range(30):
        moments.update(torch.full((100, 1, 2), 1.0, dtype=dtype))
        moments.update(torch.full((100, 1, 2), 60_000.0, dtype=dtype))
    statistics = moments.finish("")
    large = float(torch.tensor(60_000.0, dtype=dtype))
    assert statistics.mean.dtype == torch.float32
    torch.testing.assert_close(statistics.mean, torch.full((1, 2), (1 + large) / 2))
    torch.testing.assert_close(statistics.covariance, torch.full((1, 2, 2), ((large - 1) / 2) ** 2))


LARGE_MEANS = torch.tensor([5000.0, 0.0, -30000.0, 10.0])


def narrow_residuals(count: int, seed: int) -> Tensor:
    """Some residual dimensions of real models sit at thousands in every prompt and vary by ones."""
    return torch.randn(count, 1, 4, generator=torch.Generator().manual_seed(seed)) + LARGE_MEANS


@pytest.mark.parametrize("batch", [1, 7, 50, 400])
def test_covariance_survives_a_mean_that_is_large_against_the_spread(batch: int) -> None:
    residuals = narrow_residuals(400, 0)
    sizes = [batch] * (400 // batch) + [400 % batch] * (400 % batch > 0)
    found = required_covariance(streamed(residuals, sizes))[0].double()
    expected = torch.cov(residuals[:, 0].double().T, correction=0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_fp64_is_asked_for_only_where_it_surely_exists() -> None:
    assert widest_dtype(torch.device("cpu")) is torch.float64
    assert widest_dtype(torch.device("cuda:1")) is torch.float64
    assert widest_dtype(torch.device("mps")) is torch.float32


def test_without_fp64_the_covariance_survives_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics_module, "widest_dtype", lambda _device: torch.float32)
    residuals = narrow_residuals(400, 0)
    found = required_covariance(streamed(residuals, [50] * 8))[0].double()
    expected = torch.cov(residuals[:, 0].double().T, correction=0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


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


def test_residuals_of_single_prompts_are_kept_where_asked_for() -> None:
    residuals = random_residuals(7, 1)
    moments = ResidualMoments(with_residuals=True)
    for batch in residuals.bfloat16().split(3):
        moments.update(batch)
    kept = moments.finish("kept")
    torch.testing.assert_close(required_residuals(kept), residuals.bfloat16().float(), rtol=0, atol=0)
    with pytest.raises(ValueError, match="hold no residuals"):
        required_residuals(streamed(residuals, [7]))


def test_covariance_needs_a_second_moment() -> None:
    with pytest.raises(ValueError, match="no second moment"):
        required_covariance(streamed(random_residuals(3, 0), [3], with_second_moment=False))


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
    mean, covariance = first.mean.clone(), required_covariance(first).clone()
    moments.update(random_residuals(4, 1))
    assert torch.equal(batch, before)
    assert torch.equal(first.mean, mean)
    assert torch.equal(required_covariance(first), covariance)
