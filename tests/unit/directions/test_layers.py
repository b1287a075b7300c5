"""Which layers are chosen, and by what they are multiplied."""

import pytest
import torch

from heretic.directions.layers import (
    cosmic_score,
    lowest_similarity_positions,
    range_factors,
)


def test_range_factors_by_hand() -> None:
    ranges = [(0.0, 0.4, 0.5), (0.4, 0.7, 1.0), (0.7, 1.0, 0.8)]
    # Depths 0, 0.2, 0.4, 0.6, 0.8, 1: a border belongs to the deeper range.
    assert range_factors(ranges, 6) == (0.5, 0.5, 1.0, 1.0, 0.8, 0.8)
    assert range_factors([(0.5, 0.75, 0.0)], 5) == (1.0, 1.0, 0.0, 1.0, 1.0)
    assert range_factors(ranges, 1) == (0.5,)
    assert range_factors([], 3) == (1.0, 1.0, 1.0)


def test_the_least_alike_layers_are_compared_and_the_embeddings_never() -> None:
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    baseline = torch.tensor([[-1.0, 0.0], [1.0, 0.1], [-1.0, 1.0], [0.9, 0.8]])
    assert lowest_similarity_positions(target, baseline, 0.1) == [2]
    assert lowest_similarity_positions(target, baseline, 0.67) == [2, 3]


def test_a_direction_that_turns_the_classes_round_scores_two() -> None:
    target, baseline = torch.eye(3), torch.eye(3).roll(1, 0)
    assert cosmic_score(baseline * 7, target * 3, target, baseline, [0, 1, 2]) == pytest.approx(2.0)
    assert cosmic_score(target, baseline, target, baseline, [0, 1, 2]) == pytest.approx(0.0)
    assert cosmic_score(baseline, baseline, target, baseline, [1]) == pytest.approx(1.0)
