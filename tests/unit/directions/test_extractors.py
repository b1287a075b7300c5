"""Each extractor finds a direction that was planted, and transforms take out what they say."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from heretic.common.errors import ConfigurationError
from heretic.directions.extractor import EXTRACTORS, ExtractorOptions
from heretic.directions.extractors import pca as pca_module
from heretic.directions.extractors.pca import eigenvalue_weights
from heretic.directions.orthogonal import scaled_reads, without_components
from heretic.directions.statistics import ResidualMoments, required_covariance
from heretic.directions.transform import TRANSFORMS, TransformContext, TransformOptions
from heretic.directions.types import DirectionSet, ResidualStatistics

POSITIONS, SIZE, COUNT = 4, 24, 3000
METHODS = ("softmax", "proportional", "log")


def statistics_of(residuals: Tensor) -> ResidualStatistics:
    moments = ResidualMoments(with_second_moment=True)
    for batch in residuals.split(500):
        moments.update(batch)
    return moments.finish(f"{len(residuals)} prompts")


def _projected(directions: DirectionSet, baseline_mean: Tensor) -> DirectionSet:
    def nothing_else(role: str) -> ResidualStatistics:
        raise AssertionError(role)

    baseline = ResidualStatistics(baseline_mean, 1, None, "")
    context = TransformContext(baseline, baseline, nothing_else)
    return TRANSFORMS.get("projected")(directions, context, TransformOptions())


def unit(*shape: int, seed: int) -> Tensor:
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=-1, keepdim=True)


@pytest.fixture(scope="module")
def planted() -> tuple[ResidualStatistics, ResidualStatistics, Tensor]:
    """Noise that both classes share, strong along one common axis, and a direction that only the target moves along."""
    generator = torch.Generator().manual_seed(3)
    planted = unit(POSITIONS, SIZE, seed=1)
    common = unit(POSITIONS, SIZE, seed=2)
    common = common - (common * planted).sum(-1, keepdim=True) * planted

    def noise() -> Tensor:
        along = torch.randn(COUNT, POSITIONS, 1, generator=generator) * 6
        return torch.randn(COUNT, POSITIONS, SIZE, generator=generator) * 0.3 + along * common + 1.0

    strength = 3 + torch.randn(COUNT, POSITIONS, 1, generator=generator)
    return statistics_of(noise() + strength * planted), statistics_of(noise()), planted


def cosines(directions: DirectionSet, planted: Tensor, index: int = 0) -> Tensor:
    return (directions.vectors[:, index] * planted).sum(-1)


def assert_orthonormal(vectors: Tensor) -> None:
    identity = torch.eye(vectors.shape[-2]).expand(vectors.shape[0], -1, -1)
    torch.testing.assert_close(vectors @ vectors.mT, identity, rtol=0, atol=1e-5)


def test_mean_is_the_normalised_difference_of_class_means() -> None:
    target = statistics_of(torch.randn(50, POSITIONS, SIZE, generator=torch.Generator().manual_seed(0)) + 1)
    baseline = statistics_of(torch.randn(70, POSITIONS, SIZE, generator=torch.Generator().manual_seed(1)))
    directions = EXTRACTORS.get("mean").extract(target, baseline, ExtractorOptions(n_directions=3))
    difference = (target.mean - baseline.mean).double()
    expected = difference / difference.norm(dim=-1, keepdim=True)
    assert directions.vectors.shape == (POSITIONS, 1, SIZE)
    torch.testing.assert_close(directions.vectors[:, 0].double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(directions.weights, torch.ones(POSITIONS, 1))
    assert directions.provenance["target_prompts"] == 50
    assert directions.provenance["baseline_fingerprint"] == "70 prompts"


def test_quality_grows_with_the_distance_of_the_classes() -> None:
    base = torch.randn(80, POSITIONS, SIZE, generator=torch.Generator().manual_seed(0)) + 1
    axis = unit(POSITIONS, SIZE, seed=5)
    for name in ("mean", "pca"):
        extract = EXTRACTORS.get(name).extract
        qualities = [
            extract(statistics_of(base + distance * axis), statistics_of(base), ExtractorOptions()).quality
            for distance in (0.5, 2.0, 8.0)
        ]
        assert all(bool((low < high).all()) for low, high in pairwise(qualities)), name


def test_classes_that_do_not_differ_give_no_nan() -> None:
    same = statistics_of(torch.ones(5, POSITIONS, SIZE))
    for name in ("mean", "pca"):
        directions = EXTRACTORS.get(name).extract(same, same, ExtractorOptions())
        for tensor in (directions.vectors, directions.weights, directions.quality):
            assert bool(torch.isfinite(tensor).all()), name


def test_pca_finds_the_planted_direction_and_points_to_the_target(
    planted: tuple[ResidualStatistics, ResidualStatistics, Tensor],
) -> None:
    target, baseline, direction = planted
    directions = EXTRACTORS.get("pca").extract(target, baseline, ExtractorOptions())
    assert directions.vectors.shape == (POSITIONS, 1, SIZE)
    assert bool((cosines(directions, direction) > 0.99).all())


def test_pca_points_to_the_target_whichever_class_varies_more(
    planted: tuple[ResidualStatistics, ResidualStatistics, Tensor],
) -> None:
    target, baseline, direction = planted
    # With the roles swapped the target varies less, and only the shift of the mean is left to find.
    swapped = EXTRACTORS.get("pca").extract(baseline, target, ExtractorOptions())
    assert bool((cosines(swapped, direction) < -0.99).all())


def test_pca_without_contrast_follows_the_common_axis_instead(
    planted: tuple[ResidualStatistics, ResidualStatistics, Tensor],
) -> None:
    """Proves that it is the contrast that finds the planted direction."""
    target, baseline, direction = planted
    directions = EXTRACTORS.get("pca").extract(target, baseline, ExtractorOptions(pca_alpha=0.0))
    assert bool((cosines(directions, direction).abs() < 0.5).all())


@pytest.mark.parametrize("k", [1, 2, 5, SIZE, SIZE + 3])
def test_pca_vectors_are_orthonormal_and_weights_descend(
    planted: tuple[ResidualStatistics, ResidualStatistics, Tensor], k: int
) -> None:
    target, baseline, _ = planted
    directions = EXTRACTORS.get("pca").extract(target, baseline, ExtractorOptions(n_directions=k))
    assert directions.count_per_layer == min(k, SIZE)
    assert_orthonormal(directions.vectors)
    assert bool((directions.weights[:, 0] == 1).all())
    assert bool((directions.weights.diff(dim=-1) <= 0).all())
    shift = target.mean - baseline.mean
    assert bool(((directions.vectors * shift[:, None]).sum(-1) >= -1e-6).all())


def test_pca_without_eigenvalue_weights_counts_all_alike(
    planted: tuple[ResidualStatistics, ResidualStatistics, Tensor],
) -> None:
    target, baseline, _ = planted
    options = ExtractorOptions(n_directions=3, use_eigenvalue_weights=False)
    assert torch.equal(EXTRACTORS.get("pca").extract(target, baseline, options).weights, torch.ones(POSITIONS, 3))


def test_pca_takes_given_weights_as_they_are(
    planted: tuple[ResidualStatistics, ResidualStatistics, Tensor],
) -> None:
    target, baseline, _ = planted
    options = ExtractorOptions(n_directions=3, direction_weights=[1.0, 0.25, 0.5])
    weights = EXTRACTORS.get("pca").extract(target, baseline, options).weights
    assert weights.tolist() == [[1.0, 0.25, 0.5]] * POSITIONS
    many = ExtractorOptions(n_directions=SIZE + 2, direction_weights=[1.0] * (SIZE + 2))
    assert EXTRACTORS.get("pca").extract(target, baseline, many).weights.shape == (POSITIONS, SIZE)


def test_pca_decomposes_what_the_formula_says_one_position_after_the_other(
    planted: tuple[ResidualStatistics, ResidualStatistics, Tensor],
) -> None:
    """Against all positions at once in fp64."""
    target, baseline, _ = planted
    k, alpha = 3, 0.7
    directions = EXTRACTORS.get("pca").extract(target, baseline, ExtractorOptions(n_directions=k, pca_alpha=alpha))
    shift = (target.mean - baseline.mean).double()
    about_baseline = required_covariance(target).double() + shift[:, :, None] * shift[:, None, :]
    values, vectors = torch.linalg.eigh(about_baseline - alpha * required_covariance(baseline).double())
    values, vectors = values.flip(-1)[:, :k], vectors.flip(-1)[:, :, :k].mT
    overlap = (directions.vectors.double() * vectors).sum(-1).abs()
    torch.testing.assert_close(overlap, torch.ones_like(overlap), rtol=0, atol=1e-4)
    expected = eigenvalue_weights(values, "softmax").float()
    torch.testing.assert_close(directions.weights, expected, rtol=1e-4, atol=1e-5)
    variance = required_covariance(baseline).double().diagonal(dim1=-2, dim2=-1).mean(-1)
    torch.testing.assert_close(directions.quality.double(), values[:, 0] / variance, rtol=1e-4, atol=1e-5)


class Seen(TorchDispatchMode):
    """Every tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[tuple[str, torch.dtype, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        self.tensors += [
            (leaf.device.type, leaf.dtype, leaf.numel()) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)
        ]
        return result


def test_pca_never_holds_the_matrices_of_all_positions_a_second_time() -> None:
    """For a model of 8 B parameters each such copy takes 2 GB, and decomposing all at once took several."""
    positions, size = 16, 12
    generator = torch.Generator().manual_seed(0)
    target, baseline = (statistics_of(torch.randn(40, positions, size, generator=generator)) for _ in range(2))
    with Seen() as seen:
        EXTRACTORS.get("pca").extract(target, baseline, ExtractorOptions(n_directions=2))
    # Unbinding the statistics gives views, each as large as one position.
    assert max(count for _device, _dtype, count in seen.tensors) < positions * size * size / 2


def test_pca_decomposes_on_the_cpu_for_devices_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca_module, "_WITH_EIGH", ("cpu",))
    with FakeTensorMode(), Seen() as seen:
        target, baseline = torch.empty(8, 8, device="cuda"), torch.empty(8, 8, device="cuda")
        top = pca_module._top_eigenvectors(target, baseline, torch.empty(8, device="cuda"), 1.0, 2)
    assert [part.device.type for part in top] == ["cuda", "cuda"]
    assert [tuple(part.shape) for part in top] == [(2,), (2, 8)]
    assert ("cpu", torch.float32, 64) in seen.tensors


eigenvalue_lists = st.lists(st.floats(-1e4, 1e4, width=32, allow_subnormal=True), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(eigenvalue_lists, st.sampled_from(METHODS), st.floats(0.05, 10))
@example([0.0, 0.0], "proportional", 1.0)
@example([-1.0, -2.0], "log", 1.0)
@example([1e-40, 1e-42], "proportional", 1.0)
@example([1e-45], "log", 1.0)
def test_eigenvalue_weights_start_at_one_and_descend(values: list[float], method: str, temperature: float) -> None:
    """Whatever the eigenvalues: a first weight of 0 would silently leave a layer unedited."""
    eigenvalues = torch.tensor(sorted(values, reverse=True))
    weights = eigenvalue_weights(eigenvalues, method, temperature)
    assert weights[0] == 1
    assert bool((weights.diff() <= 0).all())
    assert bool((weights >= 0).all())
    assert bool(torch.isfinite(weights).all())
    if method != "softmax":
        assert not bool(weights[1:][eigenvalues[1:] <= 0].any())


def test_eigenvalue_weights_of_several_positions_do_not_mix() -> None:
    eigenvalues = torch.tensor([[4.0, 2.0], [-1.0, -3.0]])
    for method in METHODS:
        together = eigenvalue_weights(eigenvalues, method)
        alone = torch.stack([eigenvalue_weights(row, method) for row in eigenvalues])
        assert torch.equal(together, alone)


def test_eigenvalue_weights_by_formula() -> None:
    eigenvalues = torch.tensor([8.0, 4.0, 0.0])
    assert eigenvalue_weights(eigenvalues, "proportional").tolist() == [1.0, 0.5, 0.0]
    expected = [1.0, math.log(5) / math.log(9), 0.0]
    torch.testing.assert_close(eigenvalue_weights(eigenvalues, "log"), torch.tensor(expected))
    expected = [1.0, math.exp(-0.5 / 0.25), math.exp(-1 / 0.25)]
    torch.testing.assert_close(eigenvalue_weights(eigenvalues, "softmax", 0.25), torch.tensor(expected))


def test_unknown_eigenvalue_weight_method_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"linear; use softmax, proportional or log"):
        eigenvalue_weights(torch.tensor([1.0]), "linear")


def random_set(k: int, seed: int) -> DirectionSet:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.linalg.qr(torch.randn(POSITIONS, SIZE, k, generator=generator)).Q.mT.contiguous()
    return DirectionSet(vectors, torch.ones(POSITIONS, k), torch.ones(POSITIONS), "mean", {"a": 1})


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(0, 1000), st.sampled_from([1e-4, 1.0, 1e5]))
def test_projected_is_orthogonal_to_the_baseline_orthonormal_and_idempotent(k: int, seed: int, scale: float) -> None:
    baseline = torch.randn(POSITIONS, SIZE, generator=torch.Generator().manual_seed(seed + 5000)) * scale
    directions = random_set(k, seed)
    once = _projected(directions, baseline)
    unit_baseline = baseline.double() / baseline.double().norm(dim=-1, keepdim=True)
    overlap = (once.vectors.double() * unit_baseline[:, None]).sum(-1)
    assert float(overlap.abs().max()) < 1e-6
    assert once.vectors.dtype == torch.float32
    assert_orthonormal(once.vectors)
    twice = _projected(once, baseline)
    torch.testing.assert_close(twice.vectors, once.vectors, rtol=0, atol=1e-6)
    assert once.method == "mean, projected"
    assert once.provenance == directions.provenance
    # Taking a component out never turns the direction round.
    assert bool(((once.vectors[:, 0] * directions.vectors[:, 0]).sum(-1) > 0).all())


def test_projected_is_what_gram_schmidt_gives() -> None:
    directions = random_set(1, 0)
    baseline = torch.randn(POSITIONS, SIZE, generator=torch.Generator().manual_seed(9))
    expected = directions.vectors[:, 0].double()
    axis = baseline.double() / baseline.double().norm(dim=-1, keepdim=True)
    expected = expected - (expected * axis).sum(-1, keepdim=True) * axis
    expected = expected / expected.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(_projected(directions, baseline).vectors[:, 0].double(), expected, rtol=0, atol=1e-6)


def test_a_nearly_parallel_direction_stays_orthogonal() -> None:
    baseline = unit(POSITIONS, SIZE, seed=1)
    nearly = baseline + 1e-4 * unit(POSITIONS, SIZE, seed=2)
    nearly = nearly / nearly.norm(dim=-1, keepdim=True)
    vectors = _projected(replace(random_set(1, 0), vectors=nearly[:, None]), baseline).vectors
    assert float((vectors[:, 0] * baseline).sum(-1).abs().max()) < 1e-6
    assert_orthonormal(vectors)


def test_projecting_never_asks_an_accelerator_for_fp64() -> None:
    """MPS has no fp64; a pretended device stands in for it."""
    with FakeTensorMode(), Seen() as seen:
        found = DirectionSet(*(torch.empty(*shape, device="cuda") for shape in ((4, 2, 8), (4, 2), (4,))), "test")
        vectors = without_components(found, torch.empty(4, 1, 8, device="cuda"), "projected").vectors
    assert vectors.device.type == "cuda"
    assert vectors.dtype == torch.float32
    assert ("cpu", torch.float64, 4 * 2 * 8) in seen.tensors
    assert {dtype for device, dtype, _count in seen.tensors if device == "cuda"} == {torch.float32}


def test_a_zero_baseline_changes_nothing() -> None:
    directions = random_set(2, 4)
    result = _projected(directions, torch.zeros(POSITIONS, SIZE))
    torch.testing.assert_close(result.vectors, directions.vectors, rtol=0, atol=1e-6)


@pytest.mark.parametrize("direction", ["nothing", "the baseline itself"])
def test_where_nothing_is_left_no_direction_is_made_up(direction: str) -> None:
    """Classes with equal means (the embeddings of the last token, always) have no direction to remove."""
    baseline = unit(POSITIONS, SIZE, seed=1) * 7
    vectors = torch.zeros(POSITIONS, 1, SIZE) if direction == "nothing" else (baseline / 7)[:, None]
    assert torch.equal(
        _projected(replace(random_set(1, 0), vectors=vectors), baseline).vectors, torch.zeros(POSITIONS, 1, SIZE)
    )


def test_read_sides_read_their_own_direction_with_one_after_a_projection() -> None:
    directions = random_set(2, 3)
    reads = torch.randn(POSITIONS, 2, SIZE, generator=torch.Generator().manual_seed(6)) * 9
    baseline = torch.randn(POSITIONS, SIZE, generator=torch.Generator().manual_seed(7))
    with_reads = replace(directions, reads=scaled_reads(reads, directions.vectors))
    result = _projected(with_reads, baseline)
    assert result.reads is not None
    torch.testing.assert_close((result.reads * result.vectors).sum(-1), torch.ones(POSITIONS, 2), rtol=0, atol=1e-4)
    # The mean is neither read nor written.
    axis = baseline / baseline.norm(dim=-1, keepdim=True)
    relative = (result.reads * axis[:, None]).sum(-1) / result.reads.norm(dim=-1)
    assert float(relative.abs().max()) < 1e-5
    assert float((result.vectors * axis[:, None]).sum(-1).abs().max()) < 1e-5


def test_a_read_side_that_does_not_see_its_direction_gives_way_to_it() -> None:
    vectors = torch.eye(3)[None]
    reads = vectors.roll(1, dims=1).clone()
    reads[0, 1] = torch.tensor([0.0, 2.0, 1.0])
    result = scaled_reads(reads, vectors)
    assert torch.equal(result[0, 0], vectors[0, 0])
    torch.testing.assert_close(result[0, 1], torch.tensor([0.0, 1.0, 0.5]))
