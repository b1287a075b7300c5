"""Groups of prompts that show the behaviour for different reasons are found, and all their directions are removed."""

import warnings

import pytest
import torch
from tests.unit.directions.planted import POSITIONS, statistics_of, unit
from torch import Tensor

from heretic.directions.extractor import EXTRACTORS, ExtractorOptions
from heretic.directions.types import DirectionSet
from heretic.observability.events import Event, Warned, subscribed

SIZE = 30
SIZES = (30, 20, 12)
OPTIONS = ExtractorOptions(n_concept_cones=3)


def three_cones() -> tuple[Tensor, Tensor, Tensor]:
    """Target prompts of three groups in a mixed order, baseline prompts, and the direction of every group [3, P, D]."""
    generator = torch.Generator().manual_seed(0)
    directions = unit(len(SIZES), POSITIONS, SIZE, seed=4)
    groups = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    groups = groups[torch.randperm(len(groups), generator=generator)]
    target = torch.randn(len(groups), POSITIONS, SIZE, generator=generator) * 0.2 + 1 + 4 * directions[groups]
    baseline = torch.randn(50, POSITIONS, SIZE, generator=generator) * 0.2 + 1
    return target, baseline, directions


def extract(target: Tensor, baseline: Tensor, options: ExtractorOptions = OPTIONS) -> tuple[DirectionSet, list[str]]:
    seen: list[Event] = []
    with subscribed(seen.append):
        found = EXTRACTORS.get("cones").extract(statistics_of(target), statistics_of(baseline), options)
    return found, [event.message for event in seen if isinstance(event, Warned)]


def test_every_cone_lies_in_the_span_and_larger_cones_weigh_more() -> None:
    target, baseline, directions = three_cones()
    found, warned = extract(target, baseline)
    assert warned == []
    assert found.vectors.shape == (POSITIONS, 6, SIZE)
    assert found.provenance["cone_sizes"] == list(SIZES)
    inside = torch.einsum("pkd,cpd->cpk", found.vectors, directions).norm(dim=-1)
    assert bool((inside > 0.99).all())
    # The first directions of all cones come before the second ones, and the largest cone's is not bent by the others.
    assert bool(((found.vectors[:, 0] * directions[0]).sum(-1) > 0.99).all())
    expected = torch.tensor(SIZES) / SIZES[0]
    torch.testing.assert_close(found.weights[:, :3], expected.expand(POSITIONS, 3))
    assert bool((found.weights[:, 3:] < expected).all())
    identity = torch.eye(6).expand(POSITIONS, 6, 6)
    torch.testing.assert_close(found.vectors @ found.vectors.mT, identity, rtol=0, atol=1e-5)


def test_a_cone_means_the_same_prompts_in_every_layer() -> None:
    """Clustered where the classes lie furthest apart, so a position where groups cannot be told does no harm."""
    target, baseline, directions = three_cones()
    generator = torch.Generator().manual_seed(7)
    target[:, 1] = torch.randn(len(target), SIZE, generator=generator) * 0.2 + 1 + 0.1 * directions[0, 1]
    found, warned = extract(target, baseline)
    assert warned == []
    assert found.provenance["cone_sizes"] == list(SIZES)


def test_the_same_prompts_give_the_same_directions() -> None:
    target, baseline, _directions = three_cones()
    torch.manual_seed(1)
    first, _ = extract(target, baseline)
    torch.manual_seed(2)
    second, _ = extract(target, baseline)
    assert torch.equal(first.vectors, second.vectors)
    assert torch.equal(first.weights, second.weights)


def test_groups_that_are_too_small_count_as_no_cones() -> None:
    target, baseline, _directions = three_cones()
    found, (message,) = extract(target, baseline, OPTIONS.model_copy(update={"min_cone_size": 15}))
    assert found.provenance["cone_sizes"] == [32, 30] or found.provenance["cone_sizes"] == [42, 20]
    assert "do not form 3 concept cones of at least 15; 2 are used" in message
    found, (message,) = extract(target, baseline, OPTIONS.model_copy(update={"min_cone_size": 40}))
    assert found.provenance["cone_sizes"] == [62]
    assert "one cone is used" in message
    assert "--min-cone-size" in message


def test_one_cloud_is_one_cone_and_the_run_says_so() -> None:
    generator = torch.Generator().manual_seed(0)
    axis = unit(POSITIONS, 60, seed=1)
    target = torch.randn(60, POSITIONS, 60, generator=generator) + 3 * axis
    found, (message,) = extract(target, torch.randn(60, POSITIONS, 60, generator=generator), ExtractorOptions())
    assert found.count_per_layer == 2
    assert found.provenance["cone_sizes"] == [60]
    assert "silhouette 0.0" in message
    assert bool(((found.vectors[:, 0] * axis).sum(-1) > 0.8).all())


def test_prompts_that_coincide_are_no_cones_and_nothing_is_remarked() -> None:
    target = torch.ones(40, POSITIONS, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, (message,) = extract(target, torch.zeros(40, POSITIONS, SIZE))
    assert "one cone is used" in message
    assert bool(torch.isfinite(found.vectors).all())
    same, _ = extract(target, target)
    assert not bool(same.vectors.any())


@pytest.mark.parametrize(("cones", "per_cone"), [(1, 1), (1, 4), (3, 30)])
def test_every_position_has_as_many_directions(cones: int, per_cone: int) -> None:
    target, baseline, _directions = three_cones()
    found, _ = extract(target, baseline, ExtractorOptions(n_concept_cones=cones, directions_per_cone=per_cone))
    count = min(cones * per_cone, SIZE)
    assert found.vectors.shape == (POSITIONS, count, SIZE)
    assert found.weights.shape == (POSITIONS, count)
    assert bool((found.weights >= 0).all())
    assert bool((found.weights <= 1).all())
