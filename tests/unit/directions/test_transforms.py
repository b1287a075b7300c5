"""helpfulness and sacred take out what they say, from what is read and from what is written."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.directions.planted import POSITIONS, context_of, planted_classes, statistics_of, unit
from torch import Tensor

from heretic.directions.extractor import EXTRACTORS, ExtractorOptions
from heretic.directions.orthogonal import outside_span, ridge_outside, scaled_reads
from heretic.directions.transform import TRANSFORMS, TransformOptions
from heretic.directions.transforms.sacred import capability_directions, overlap
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.observability.events import Event, Warned, subscribed

SIZE = 40
OWN = ("cones", "ensemble", "leace", "mean", "pca", "probe")
OWN_TRANSFORMS = ("helpfulness", "projected", "sacred")


def random_set(k: int, seed: int = 0) -> DirectionSet:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.linalg.qr(torch.randn(POSITIONS, SIZE, k, generator=generator)).Q.mT.contiguous()
    reads = scaled_reads(vectors + 0.3 * torch.randn(POSITIONS, k, SIZE, generator=generator), vectors)
    return DirectionSet(vectors, torch.ones(POSITIONS, k), torch.ones(POSITIONS), "mean", reads=reads)


def texts(axes: Tensor, seed: int, count: int = 60) -> ResidualStatistics:
    """Texts that lie 5 along axes [r, P, D] on one side, with some spread, and noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, POSITIONS, SIZE, generator=generator) * 0.1 + 1
    along = torch.randn(count, len(axes), generator=generator) + 5 if len(axes) else torch.zeros(count, 0)
    return statistics_of(noise + torch.einsum("nr,rpd->npd", along, axes))


def apply(
    name: str, directions: DirectionSet, prompt_sets: dict[str, ResidualStatistics], **options: float
) -> tuple[DirectionSet, list[str]]:
    baseline = texts(torch.zeros(0, POSITIONS, SIZE), 9)
    seen: list[Event] = []
    with subscribed(seen.append):
        result = TRANSFORMS.get(name)(
            directions,
            context_of(baseline, baseline, prompt_sets.__getitem__),
            TransformOptions(**options),
        )
    return result, [event.message for event in seen if isinstance(event, Warned)]


def test_helpfulness_takes_out_the_difference_of_unhelpful_and_helpful_text() -> None:
    axis = unit(POSITIONS, SIZE, seed=11)
    sets = {"unhelpful_prompts": texts(axis[None], 1), "helpful_prompts": texts(torch.zeros(0, POSITIONS, SIZE), 2)}
    directions = random_set(2)
    result, _ = apply("helpfulness", directions, sets)
    difference = sets["unhelpful_prompts"].mean - sets["helpful_prompts"].mean
    difference = difference / difference.norm(dim=-1, keepdim=True)
    assert bool(((difference * axis).sum(-1) > 0.99).all())
    assert result.method == "mean, helpfulness"
    assert result.reads is not None
    assert directions.reads is not None
    for side in (result.vectors, result.reads / result.reads.norm(dim=-1, keepdim=True)):
        assert float((side * difference[:, None]).sum(-1).abs().max()) < 1e-5
    # Nothing else is taken out.
    before = directions.vectors[:, 0] - (directions.vectors[:, 0] * difference).sum(-1, keepdim=True) * difference
    assert bool((torch.nn.functional.cosine_similarity(before, result.vectors[:, 0], dim=-1) > 0.9999).all())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.floats(0.001, 100), st.integers(0, 100))
def test_ridge_is_the_formula(k: int, r: int, regularization: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, k, 9, generator=generator, dtype=torch.float64)
    axes = torch.randn(2, r, 9, generator=generator, dtype=torch.float64)
    found = ridge_outside(rows, axes, regularization)
    for index in range(2):
        c = axes[index]
        inverse = torch.linalg.inv(c @ c.T + regularization * torch.eye(r, dtype=torch.float64))
        for row, expected in zip(found[index], rows[index], strict=True):
            torch.testing.assert_close(row, expected - c.T @ inverse @ c @ expected, rtol=1e-8, atol=1e-8)


def test_ridge_without_regularisation_takes_all_out_and_zero_rows_nothing() -> None:
    rows = random_set(2).vectors
    axes = torch.cat([random_set(3, seed=1).vectors, torch.zeros(POSITIONS, 1, SIZE)], dim=1)
    torch.testing.assert_close(ridge_outside(rows, axes, 0.0), outside_span(rows, axes), rtol=0, atol=1e-9)
    assert torch.equal(ridge_outside(rows, torch.zeros(POSITIONS, 2, SIZE), 0.0), rows.double())


def sacred_sets(count: int = 2) -> tuple[dict[str, ResidualStatistics], Tensor]:
    axes = torch.linalg.qr(torch.randn(POSITIONS, SIZE, count, generator=torch.Generator().manual_seed(8))).Q
    axes = axes.permute(2, 0, 1)
    plain = texts(torch.zeros(0, POSITIONS, SIZE), 2)
    return {"sacred_prompts": texts(axes, 1), "sacred_baseline_prompts": plain}, axes


def test_capability_directions_are_where_questions_differ_from_plain_text() -> None:
    sets, axes = sacred_sets()
    questions, plain = sets["sacred_prompts"].residuals, sets["sacred_baseline_prompts"].residuals
    assert questions is not None
    assert plain is not None
    vectors, lengths = capability_directions(questions[:, 1].double(), plain[:, 1].double(), 2)
    # Both planted axes lie in the span of the two directions.
    inside = (vectors @ axes[:, 1].T.double()).norm(dim=0)
    assert bool((inside > 0.99).all())
    assert float(lengths[0]) == 1
    assert 0 < float(lengths[1]) < 1
    nothing, none = capability_directions(plain[:, 1].double(), questions[:, 1].double() * 0 + 1, 2)
    assert bool(torch.isfinite(nothing).all())
    assert bool(torch.isfinite(none).all())


@pytest.mark.parametrize("regularization", [0.0, 0.1, 3.0])
def test_sacred_leaves_as_much_as_the_regularisation_says(regularization: float) -> None:
    sets, _axes = sacred_sets(1)
    questions, plain = sets["sacred_prompts"].residuals, sets["sacred_baseline_prompts"].residuals
    assert questions is not None
    assert plain is not None
    axis = torch.stack([capability_directions(questions[:, p].double(), plain[:, p].double(), 1)[0] for p in range(4)])
    directions = random_set(1)
    result, _ = apply("sacred", directions, sets, n_sacred_directions=1, sacred_regularization=regularization)
    before = (directions.vectors.double() * axis).sum(-1)
    kept = regularization / (1 + regularization)
    # Relative to the part that is orthogonal to the axis, which stays.
    expected = kept * before / (1 - before**2 + (kept * before) ** 2).sqrt()
    torch.testing.assert_close((result.vectors.double() * axis).sum(-1), expected, rtol=1e-4, atol=1e-6)
    assert result.method == "mean, sacred"


def test_sacred_warns_where_direction_and_capability_coincide() -> None:
    sets, axes = sacred_sets(1)
    inside = DirectionSet(axes.permute(1, 0, 2).contiguous(), torch.ones(4, 1), torch.ones(4), "mean")
    result, (message,) = apply("sacred", inside, sets)
    assert message.startswith("In 3 of 3 layers")
    assert "more than 0.3" in message
    assert "--n-sacred-directions" in message
    assert bool(torch.isfinite(result.vectors).all())
    _, warned = apply("sacred", inside, sets, sacred_overlap_threshold=1.0)
    assert warned == []


def test_position_0_is_no_layer_and_is_not_warned_of() -> None:
    sets, axes = sacred_sets(1)
    vectors = outside_span(unit(POSITIONS, 1, SIZE, seed=3), axes.permute(1, 0, 2)).float()
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    vectors[0] = axes[:, 0]
    directions = DirectionSet(vectors, torch.ones(4, 1), torch.ones(4), "mean")
    _, warned = apply("sacred", directions, sets, n_sacred_directions=1)
    assert warned == []


def test_overlap_is_the_largest_cosine_with_the_subspace() -> None:
    vectors = torch.tensor([[[1.0, 0, 0], [0, 0.6, 0.8]]])
    axes = torch.tensor([[[0.0, 1, 0], [0, 0, 0]]], dtype=torch.float64)
    assert overlap(vectors, axes).tolist() == pytest.approx([0.6])


# Every extractor under every transform ---------------------------------------------------------------------------


def test_the_matrix_below_knows_all() -> None:
    assert set(EXTRACTORS.names()) >= set(OWN)
    assert set(TRANSFORMS.names()) >= set(OWN_TRANSFORMS)


@pytest.mark.parametrize("transform", [None, *TRANSFORMS.names()])
@pytest.mark.parametrize("extractor", EXTRACTORS.names())
def test_every_extractor_finds_the_planted_direction_under_every_transform(
    extractor: str, transform: str | None
) -> None:
    first, second, direction, _shared = planted_classes(50, SIZE, strength=8.0)
    target, baseline = statistics_of(first), statistics_of(second)
    found = EXTRACTORS.get(extractor).extract(target, baseline, ExtractorOptions(n_directions=2))
    if transform is not None:
        sets, _axes = sacred_sets()
        sets |= {"unhelpful_prompts": sets["sacred_prompts"], "helpful_prompts": sets["sacred_baseline_prompts"]}
        context = context_of(target, baseline, sets.__getitem__)
        found = TRANSFORMS.get(transform)(found, context, TransformOptions())
    k = found.count_per_layer
    layers = slice(1, None)
    for tensor in (found.vectors, found.weights, found.quality, *([] if found.reads is None else [found.reads])):
        assert bool(torch.isfinite(tensor).all())
        assert tensor.dtype == torch.float32
    assert bool((torch.einsum("pkd,pd->pk", found.vectors, direction)[layers].norm(dim=-1) > 0.8).all())
    gram = (found.vectors @ found.vectors.mT)[layers]
    torch.testing.assert_close(gram, torch.eye(k).expand_as(gram), rtol=0, atol=1e-5)
    assert found.weights.shape == (POSITIONS, k)
    assert float(found.weights[layers].max()) == 1
    if found.reads is not None:
        seen = (found.reads * found.vectors).sum(-1)[layers]
        torch.testing.assert_close(seen, torch.ones_like(seen), rtol=0, atol=1e-4)
