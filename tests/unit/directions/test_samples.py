"""Working in the span of a few samples changes nothing but the time."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from heretic.directions.samples import separation, span, top_contrast, without_convergence_warnings


def rows_of(count: int, size: int, rank: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, rank, generator=generator, dtype=torch.float64) @ torch.randn(
        rank, size, generator=generator, dtype=torch.float64
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 6), st.integers(0, 99))
def test_a_span_holds_every_row(count: int, size: int, rank: int, seed: int) -> None:
    rows = rows_of(count, size, rank, seed)
    squared, axes = span(rows)
    assert axes.shape == (min(count, size, rank), size)
    torch.testing.assert_close(axes @ axes.mT, torch.eye(len(axes), dtype=torch.float64), rtol=0, atol=1e-8)
    torch.testing.assert_close(rows @ axes.mT @ axes, rows, rtol=0, atol=1e-8)
    expected = torch.linalg.svdvals(rows).square().flip(0)[-len(axes) :] if len(axes) else torch.zeros(0)
    torch.testing.assert_close(squared, expected.double(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("count", "size"), [(5, 30), (60, 8)])
def test_the_contrast_in_a_span_is_the_contrast_of_covariances(count: int, size: int) -> None:
    target, baseline = rows_of(count, size, 30, 0), rows_of(count + 3, size, 30, 1)
    _squared, axes = span(torch.cat([target, baseline]))
    values, found = top_contrast(target @ axes.mT, baseline @ axes.mT, 0.7, 3)
    dense = target.T @ target / count - 0.7 * (baseline.T @ baseline / (count + 3))
    expected_values, expected = torch.linalg.eigh(dense)
    torch.testing.assert_close(values, expected_values[-3:].flip(0))
    cosines = ((found @ axes) * expected[:, -3:].flip(-1).T).sum(-1).abs()
    torch.testing.assert_close(cosines, torch.ones(3, dtype=torch.float64))


def test_fewer_axes_than_asked_for_leave_zeros() -> None:
    values, vectors = top_contrast(torch.tensor([[2.0], [0.0]]), torch.tensor([[0.5]]), 1.0, 3)
    assert values.tolist() == [2.0 - 0.25, 0, 0]
    assert vectors.abs().tolist() == [[1], [0], [0]]
    values, vectors = top_contrast(torch.zeros(2, 0), torch.zeros(2, 0), 1.0, 2)
    assert (values.shape, vectors.shape) == ((2,), (2, 0))


def test_separation_is_in_standard_deviations() -> None:
    target = torch.tensor([[4.0, 1.0, 2.0], [6.0, 1.0, 2.0]])
    baseline = torch.tensor([[1.0, 1.0, 3.0], [3.0, 1.0, 3.0]])
    assert separation(target, baseline).tolist() == [3.0, 0.0, 0.0]
    assert separation(2 * target + 5, 2 * baseline + 5)[0] == 3.0


def test_remarks_of_scikit_learn_do_not_reach_the_terminal_and_others_do() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with without_convergence_warnings():
            warnings.warn("not converged", ConvergenceWarning, stacklevel=1)
            with pytest.raises(RuntimeWarning):
                warnings.warn("something else", RuntimeWarning, stacklevel=1)
        with pytest.raises(ConvergenceWarning):
            warnings.warn("again", ConvergenceWarning, stacklevel=1)
