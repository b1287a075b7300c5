"""What holds for every extractor and every transform that the registries name; a new file is tested by being there."""

import pytest
import torch
from tests.unit.directions.planted import POSITIONS, context_of, planted_classes, statistics_of

from heretic.common.errors import ConfigurationError
from heretic.directions.extractor import EXTRACTORS, Extractor, ExtractorOptions
from heretic.directions.transform import TRANSFORMS, TransformOptions
from heretic.directions.types import DirectionSet

SIZE = 24
TARGET, BASELINE, DIRECTION, _SHARED = planted_classes(60, SIZE, strength=6.0)


def assert_directions(directions: DirectionSet) -> None:
    """Finite, unit and orthonormal at every position behind the embeddings, as edits take for granted."""
    positions, k, size = directions.vectors.shape
    assert (positions, size) == (POSITIONS, SIZE)
    assert directions.weights.shape == (positions, k)
    assert directions.quality.shape == (positions,)
    tensors = (directions.vectors, directions.weights, directions.quality, directions.reads)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors if tensor is not None)
    products = directions.vectors[1:] @ directions.vectors[1:].mT
    torch.testing.assert_close(products, torch.eye(k).expand_as(products), atol=1e-4, rtol=0)
    if directions.reads is not None:
        # What is read at strength 1 is what is removed.
        sides = directions.reads[1:] @ directions.vectors[1:].mT
        torch.testing.assert_close(sides, torch.eye(k).expand_as(sides), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", EXTRACTORS.names())
def test_every_extractor_finds_what_was_planted(name: str) -> None:
    method = EXTRACTORS.get(name)
    assert isinstance(method, Extractor)
    assert method.extract.__doc__
    first, again = (
        method.extract(statistics_of(TARGET), statistics_of(BASELINE), ExtractorOptions()) for _ in range(2)
    )
    assert_directions(first)
    assert first.method == name
    assert first.provenance["target_prompts"] == len(TARGET)
    assert torch.equal(first.vectors, again.vectors)
    inside = torch.einsum("pkd,pd->pk", first.vectors, DIRECTION).square().sum(-1).sqrt()
    assert bool((inside[1:] > 0.7).all())


@pytest.mark.parametrize("name", EXTRACTORS.names())
def test_every_extractor_says_that_prompts_are_too_few(name: str) -> None:
    method = EXTRACTORS.get(name)
    few = method.minimum_prompts
    method.check(name, few, few)
    method.extract(statistics_of(TARGET[: max(few, 2)]), statistics_of(BASELINE[: max(few, 2)]), ExtractorOptions())
    for counts in ((few - 1, few), (few, few - 1)):
        with pytest.raises(ConfigurationError, match=f"extractor {name} "):
            method.check(name, *counts)


@pytest.mark.parametrize("name", TRANSFORMS.names())
def test_every_transform_leaves_directions_that_edits_can_use(name: str) -> None:
    transform = TRANSFORMS.get(name)
    assert transform.__doc__
    target, baseline = statistics_of(TARGET), statistics_of(BASELINE)
    directions = EXTRACTORS.get("mean").extract(target, baseline, ExtractorOptions())
    generator = torch.Generator().manual_seed(7)
    plain, spread = torch.randn(60, POSITIONS, SIZE, generator=generator), torch.randn(60, 1, 1, generator=generator)
    along = plain + (4 + 3 * spread) * DIRECTION
    roles = {"helpful_prompts": plain, "sacred_baseline_prompts": plain}
    context = context_of(target, baseline, lambda role: statistics_of(roles.get(role, along)))
    result = transform(directions, context, TransformOptions())
    assert_directions(result)
    assert result.method == f"mean, {name}"
    assert not torch.equal(result.vectors, directions.vectors)
