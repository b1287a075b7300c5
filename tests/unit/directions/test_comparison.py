"""Cosines and overlaps of direction sets, against angles that are known."""

import math
from dataclasses import replace

import pytest
import torch
from tests.unit.directions.direction_sets import LAYERS, random_set

from heretic.common.errors import UserError
from heretic.directions.comparison import (
    cosines_between,
    cosines_to_layer_below,
    overlap,
    principal_cosines,
    require_same_shape,
)
from heretic.directions.types import DirectionSet


def plane(*angles: float) -> DirectionSet:
    """One direction a position in a plane of four dimensions, at these angles."""
    vectors = torch.tensor([[[math.cos(angle), math.sin(angle), 0.0, 0.0]] for angle in angles])
    return DirectionSet(vectors, torch.ones(len(angles), 1), torch.ones(len(angles)), "angles")


def test_cosines_are_signed() -> None:
    found = cosines_between(plane(0.0, 0.5, 1.0), plane(0.3, 0.5 + math.pi, 1.0 + math.pi / 2))
    assert found.tolist() == pytest.approx([math.cos(0.3), -1, 0], abs=1e-6)


def test_neighbours_are_the_layers_below() -> None:
    found = cosines_to_layer_below(plane(0.0, 0.2, 1.0)).tolist()
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([math.cos(0.2), math.cos(0.8)], abs=1e-6)


def test_no_direction_has_no_cosine() -> None:
    found = random_set(0)
    assert torch.isnan(cosines_between(found, found)).tolist() == [True, *[False] * LAYERS]
    assert torch.isnan(cosines_to_layer_below(found)).tolist() == [True, True, *[False] * (LAYERS - 1)]
    assert torch.isnan(overlap(found, random_set(1))).tolist() == [True, *[False] * LAYERS]


def test_the_same_space_overlaps_wholly_whatever_its_basis() -> None:
    found = random_set(0, k=3)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5))).Q
    turned = replace(found, vectors=turn @ found.vectors)
    assert overlap(found, turned).tolist() == pytest.approx([1] * (LAYERS + 1), abs=1e-5)
    assert not torch.allclose(cosines_between(found, turned).abs(), torch.ones(1, dtype=torch.float64), atol=0.01)


def test_overlap_of_planes_that_share_a_line() -> None:
    axes = torch.eye(4)
    first, tilted = axes[[0, 1]], torch.stack([axes[0], 0.6 * axes[1] + 0.8 * axes[2]])
    assert principal_cosines(first, tilted).tolist() == pytest.approx([1, 0.6])
    sets = [
        DirectionSet(vectors.expand(2, 2, 4), torch.ones(2, 2), torch.ones(2), "planes") for vectors in (first, tilted)
    ]
    assert overlap(*sets).tolist() == pytest.approx([(1 + 0.36) / 2] * 2)


def test_a_line_within_a_larger_space_overlaps_wholly() -> None:
    space = random_set(0, k=3)
    line = replace(space, vectors=space.vectors[:, 1:2], weights=space.weights[:, 1:2])
    assert overlap(space, line).tolist() == pytest.approx([1] * (LAYERS + 1), abs=1e-5)
    assert overlap(line, space).tolist() == pytest.approx(overlap(space, line).tolist(), abs=1e-12)


def test_other_shapes_are_named() -> None:
    with pytest.raises(
        UserError, match=r"a is for a model of 3 layers of width 8 and b for one of 5 layers of width 9"
    ):
        require_same_shape(random_set(0), random_set(0, layers=5, width=9), ("a", "b"))
    require_same_shape(random_set(0), random_set(0, k=2), ("a", "b"))
