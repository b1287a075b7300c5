"""Lengths along directions, and how far two classes lie apart."""

import math
from dataclasses import replace

import pytest
import torch
from tests.unit.directions.direction_sets import random_set

from heretic.directions.projections import Projections, halves_apart, projected_lengths, separation, standardized


def test_lengths_along_the_first_direction_of_each_position() -> None:
    directions = random_set(0, k=2)
    residuals = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(1))
    found = projected_lengths([residuals[:2].bfloat16().float(), residuals[2:]], directions)
    assert found.shape == (5, 4)
    assert float(found[4, 2]) == pytest.approx(float(residuals[4, 2] @ directions.vectors[2, 0]), abs=1e-5)


def test_what_reads_a_direction_measures_it() -> None:
    directions = random_set(0)
    residuals = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(1))
    read = replace(directions, reads=3 * directions.vectors)
    torch.testing.assert_close(projected_lengths([residuals], read), 3 * projected_lengths([residuals], directions))


def test_separation_in_standard_deviations() -> None:
    # Both classes vary by 2, and their means are 6 apart.
    found = Projections(torch.tensor([[4.0], [8.0]]), torch.tensor([[-2.0], [2.0], [-2.0], [2.0]]))
    assert separation(found).tolist() == [3]
    assert separation(Projections(found.baseline, found.target)).tolist() == [-3]
    scaled = standardized(found)
    assert scaled.target.flatten().tolist() == [0.5, 2.5]
    assert scaled.baseline.flatten().tolist() == [-2.5, -0.5, -2.5, -0.5]


def test_where_nothing_varies_nothing_is_said() -> None:
    found = Projections(torch.zeros(3, 1), torch.zeros(2, 1))
    assert math.isnan(separation(found).item())
    assert torch.isnan(standardized(found).target).all()


def test_halves_that_share_a_direction_agree_and_lie_apart_along_each_other_s() -> None:
    generator = torch.Generator().manual_seed(0)

    def rows(shift: float) -> torch.Tensor:
        residuals = torch.randn(40, 2, 8, generator=generator)
        residuals[:, 1, 0] += shift
        return residuals

    apart, agreement = halves_apart([(rows(6.0), rows(0.0)), (rows(6.0), rows(0.0))])
    assert apart[1] > 4
    assert agreement[1] > 0.9
    # Where nothing differs, what one half finds is not there in the other.
    assert abs(apart[0]) < 1
    assert agreement[0] < 0.8
