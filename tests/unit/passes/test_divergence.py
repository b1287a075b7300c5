"""KL against torch's own in float64, and the cases in which a wrong formula goes unnoticed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heretic.passes.divergence import agree, kl_divergence, most_likely

VOCABULARY = 37


def distributions(seed: int, positions: int = 4, scale: float = 3.0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(positions, VOCABULARY, generator=generator, dtype=dtype) * scale).log_softmax(-1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from([0.01, 1.0, 12.0]), st.sampled_from([1, 4, 5, 11])
)
def test_equals_the_reference_in_float64_and_is_not_negative(
    first: int, second: int, scale: float, positions: int
) -> None:
    base, edited = distributions(first, positions, scale), distributions(second, positions, scale)
    found = kl_divergence(base, edited)
    expected = torch.nn.functional.kl_div(edited.double(), base.double(), reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(found.double(), expected.clamp_min(0), rtol=1e-4, atol=1e-5)
    assert bool((found >= 0).all())
    assert found.shape == (positions,)


def test_the_base_comes_first() -> None:
    base, edited = distributions(0), distributions(1)
    assert not torch.allclose(kl_divergence(base, edited), kl_divergence(edited, base), rtol=0.01)
    likely, uniform = torch.tensor([[0.98, 0.01, 0.01]]).log(), torch.full((1, 3), 1 / 3).log()
    expected = 0.98 * torch.tensor(0.98 * 3).log() + 0.02 * torch.tensor(0.03).log()
    torch.testing.assert_close(kl_divergence(likely, uniform)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_distributions_diverge_by_exactly_nothing(dtype: torch.dtype) -> None:
    base = distributions(5, dtype=dtype)
    assert torch.equal(kl_divergence(base, base.clone()), torch.zeros(4, dtype=dtype))


def test_suppressed_tokens_do_not_count() -> None:
    logits = torch.randn(2, 3, VOCABULARY, generator=torch.Generator().manual_seed(0))
    masked = logits.clone()
    masked[..., [4, 9]] = -torch.inf
    keep = [token for token in range(VOCABULARY) if token not in (4, 9)]
    found = kl_divergence(*masked.log_softmax(-1))
    torch.testing.assert_close(found, kl_divergence(*logits[..., keep].log_softmax(-1)))
    assert bool(torch.isfinite(found).all())


def test_nan_of_the_edited_model_is_not_hidden() -> None:
    base, edited = distributions(0), distributions(1)
    edited[2] = torch.nan
    assert kl_divergence(base, edited).isnan().tolist() == [False, False, True, False]
    edited[1, 3] = torch.nan
    assert kl_divergence(base, edited).isnan().tolist() == [False, True, True, False]


def test_a_token_that_became_impossible_is_not_finite() -> None:
    base, edited = distributions(0), distributions(1)
    edited[0, 7] = -torch.inf
    found = kl_divergence(base, edited)
    assert torch.isinf(found).tolist() == [True, False, False, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_of_equally_likely_tokens_the_first_is_taken(dtype: torch.dtype) -> None:
    """As ordinary greedy decoding does; in bfloat16 ties are common. More tokens than one vector register holds."""
    logits = torch.randn(6, 5000, generator=torch.Generator().manual_seed(1)).to(dtype)
    places = [(0, 4999), (7, 8), (63, 64, 4000), (15, 16), (1, 2501), (4998,)]
    for row, own in zip(logits, places, strict=True):
        row[list(own)] = 9.0
    assert most_likely(logits).tolist() == [own[0] for own in places]


def test_passes_agree_within_the_rounding_of_their_dtype() -> None:
    logits = torch.randn(3, 500, generator=torch.Generator().manual_seed(2))
    noise = torch.randn(3, 500, generator=torch.Generator().manual_seed(3))
    assert agree(logits, logits + 1e-5 * noise)
    assert not agree(logits, logits + 0.1 * noise)
    assert agree(logits.bfloat16(), (logits + 0.1 * noise).bfloat16())
    assert not agree(logits.bfloat16(), (logits + 0.5 * noise).bfloat16())
