"""probe, ensemble and leace: what reads a behaviour is found apart from what writes it."""

from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tests.unit.directions.planted import POSITIONS, planted_classes, statistics_of
from torch import Tensor

from heretic.common.errors import ConfigurationError
from heretic.directions.extractor import EXTRACTORS, ExtractorOptions
from heretic.directions.extractors.leace import CANDIDATES, held_out_separation, read_sides
from heretic.directions.extractors.probe import INVERSE_REGULARIZATION, fit_probe
from heretic.directions.samples import separation
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.observability.events import Event, Warned, subscribed

SIZES = [12, 150]
"""Fewer and more dimensions than the 80 samples."""
COUNT = 40


def classes(size: int, **options: float) -> tuple[ResidualStatistics, ResidualStatistics, Tensor]:
    target, baseline, direction, _shared = planted_classes(COUNT, size, **options)
    return statistics_of(target), statistics_of(baseline), direction


def extract(
    name: str, target: ResidualStatistics, baseline: ResidualStatistics, **options: object
) -> tuple[DirectionSet, list[str]]:
    seen: list[Event] = []
    with subscribed(seen.append):
        found = EXTRACTORS.get(name).extract(target, baseline, ExtractorOptions(**options))
    return found, [event.message for event in seen if isinstance(event, Warned)]


def reads_of(directions: DirectionSet) -> Tensor:
    assert directions.reads is not None
    return directions.reads


def cosine(first: Tensor, second: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=-1))


@pytest.mark.parametrize("size", SIZES)
def test_a_probe_in_the_span_of_the_samples_is_the_probe_in_all_dimensions(size: int) -> None:
    target, baseline, _direction, _shared = planted_classes(COUNT, size)
    rows, labels = torch.cat([target, baseline])[:, 2].double().numpy(), [1] * COUNT + [0] * COUNT
    scaler = StandardScaler().fit(rows)
    # A penalty on weights of features of variance 1 / D is one D times as weak on features of variance 1.
    whole = LogisticRegression(C=INVERSE_REGULARIZATION / size, class_weight="balanced", tol=1e-8, max_iter=5000)
    expected = torch.from_numpy(whole.fit(scaler.transform(rows), labels).coef_[0] / scaler.scale_)
    found, accuracy = fit_probe(target[:, 2].double(), baseline[:, 2].double())
    assert cosine(found, expected) > 0.999
    assert 0.65 < accuracy <= 1


@pytest.mark.parametrize("name", ["probe", "leace", "ensemble"])
@pytest.mark.parametrize("size", SIZES)
def test_the_read_side_separates_prompts_that_it_has_not_seen_better_than_the_mean_difference(
    name: str, size: int
) -> None:
    """The shared noise lies partly along the direction, so the mean difference reads it too."""
    target, baseline, _direction, _shared = planted_classes(3 * COUNT, size)
    found, _ = extract(name, statistics_of(target[:COUNT]), statistics_of(baseline[:COUNT]))
    for position in range(1, POSITIONS):
        held_out = target[COUNT:, position], baseline[COUNT:, position]
        by_read, by_vector = (
            float(separation(*(rows @ side[position].T for rows in held_out)))
            for side in (reads_of(found), found.vectors)
        )
        assert by_read > 1.2 * by_vector


def test_the_probe_writes_the_mean_difference_and_keeps_the_held_out_accuracy() -> None:
    target, baseline, _direction = classes(24, strength=6.0)
    found, warned = extract("probe", target, baseline)
    mean, _ = extract("mean", target, baseline)
    torch.testing.assert_close(found.vectors, mean.vectors)
    # Where all residuals are equal nothing is read; it is no layer's output, and nobody is warned.
    assert float(found.quality[0]) == 0.5
    assert bool((found.quality[1:] > 0.9).all())
    assert torch.equal(found.weights, torch.ones(POSITIONS, 1))
    assert warned == []


def test_accuracy_is_that_on_held_out_prompts_and_names_layer_and_counts_where_no_layer_reaches_it() -> None:
    """More dimensions than samples: any labels can be learnt by heart, so accuracy on seen prompts would be 1."""
    noise = torch.randn(2 * COUNT, POSITIONS, 200, generator=torch.Generator().manual_seed(0))
    target, baseline = statistics_of(noise[:COUNT]), statistics_of(noise[COUNT : COUNT + 15])
    with pytest.raises(ConfigurationError) as caught:
        extract("probe", target, baseline)
    message = str(caught.value)
    for words in ("40 bad_prompts", "15 good_prompts", "after layer ", "of 3", "--min-probe-accuracy below 0.65"):
        assert words in message
    assert "\n" not in message
    found, _ = extract("probe", target, baseline, min_probe_accuracy=0.0)
    assert bool((found.quality < 0.65).all())


def test_classes_of_different_size_count_alike() -> None:
    noise = torch.randn(100, POSITIONS, 5, generator=torch.Generator().manual_seed(0))
    _weights, accuracy = fit_probe(noise[:90, 1].double(), noise[90:, 1].double())
    assert accuracy < 0.75, "calling everything the larger class is right in 90 % of prompts"


@pytest.mark.parametrize("name", ["probe", "ensemble"])
def test_a_layer_whose_probe_tells_nothing_is_left_alone_and_named(name: str) -> None:
    target, baseline, _direction, _shared = planted_classes(COUNT, 24, strength=6.0)
    target[:, 1] = torch.randn(COUNT, 24, generator=torch.Generator().manual_seed(1))
    baseline[:, 1] = torch.randn(COUNT, 24, generator=torch.Generator().manual_seed(2))
    found, (message,) = extract(name, statistics_of(target), statistics_of(baseline))
    assert found.weights[:, 0].tolist() == [1, 0, 1, 1]
    assert message.startswith("Layer 1 is left alone")
    assert "65%" in message
    assert "--min-probe-accuracy" in message


@pytest.mark.parametrize(("shares", "alone"), [([1.0, 0.0], "probe"), ([0.0, 1.0], "pca")])
def test_an_ensemble_of_one_is_that_one(shares: list[float], alone: str) -> None:
    target, baseline, _direction = classes(24)
    found, _ = extract("ensemble", target, baseline, ensemble_weights=shares)
    expected, _ = extract(alone, target, baseline)
    torch.testing.assert_close(found.vectors[1:], expected.vectors[1:], rtol=1e-4, atol=1e-5)
    reads = expected.vectors if expected.reads is None else expected.reads
    torch.testing.assert_close(reads_of(found)[1:], reads[1:], rtol=1e-4, atol=1e-4)


def test_an_ensemble_mixes_unit_vectors_on_the_side_of_the_mean_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever sign an eigenvector has."""
    target, baseline, _direction = classes(24)
    probe, _ = extract("probe", target, baseline)
    pca, _ = extract("pca", target, baseline, n_directions=1)
    expected = 0.7 * probe.vectors + 0.3 * pca.vectors
    unit_reads = reads_of(probe) / reads_of(probe).norm(dim=-1, keepdim=True)
    expected_reads = 0.7 * unit_reads + 0.3 * pca.vectors
    from heretic.directions.extractors import ensemble as module

    monkeypatch.setattr(module, "pca", lambda *_: replace(pca, vectors=-pca.vectors))
    found, _ = extract("ensemble", target, baseline, n_directions=3)
    assert found.count_per_layer == 1
    for position in range(1, POSITIONS):
        assert cosine(found.vectors[position, 0], expected[position, 0]) > 0.9999
        assert cosine(reads_of(found)[position, 0], expected_reads[position, 0]) > 0.9999


@pytest.mark.parametrize("size", SIZES)
def test_leace_reads_with_the_inverse_covariance(size: int) -> None:
    target, baseline, _direction, _shared = planted_classes(COUNT, size)
    first, second = target[:, 2].double(), baseline[:, 2].double()
    centred = torch.cat([first - first.mean(0), second - second.mean(0)])
    covariance = centred.T @ centred / (2 * COUNT)
    for regularization in (0.03, 1.0, 50.0):
        tau = regularization * covariance.diagonal().mean()
        expected = tau * torch.linalg.solve(
            covariance + tau * torch.eye(size, dtype=torch.float64), first.mean(0) - second.mean(0)
        )
        found = read_sides(first, second, torch.tensor([regularization], dtype=torch.float64))[0]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_leace_with_a_large_tau_is_the_mean_difference() -> None:
    target, baseline, _direction = classes(24)
    mean, _ = extract("mean", target, baseline)
    small, _ = extract("leace", target, baseline, leace_regularization=1e-2)
    large, _ = extract("leace", target, baseline, leace_regularization=1e6)
    torch.testing.assert_close(large.vectors, mean.vectors)
    torch.testing.assert_close(reads_of(large), mean.vectors, rtol=0, atol=1e-4)
    assert not torch.allclose(reads_of(small)[1:], mean.vectors[1:], atol=0.1)


def test_leace_takes_the_regularisation_that_separates_held_out_prompts_best() -> None:
    target, baseline, _direction = classes(150)
    found, _ = extract("leace", target, baseline)
    chosen = found.provenance["regularization"]
    assert len(chosen) == POSITIONS
    candidates = torch.tensor(CANDIDATES, dtype=torch.float64)
    assert target.residuals is not None
    assert baseline.residuals is not None
    for position in range(1, POSITIONS):
        scores = held_out_separation(
            target.residuals[:, position].double(), baseline.residuals[:, position].double(), candidates
        )
        assert chosen[position] == pytest.approx(float(candidates[scores.argmax()]))
        assert float(found.quality[position]) == pytest.approx(float(scores.max()), rel=1e-5)
        same, _ = extract("leace", target, baseline, leace_regularization=chosen[position])
        torch.testing.assert_close(reads_of(same)[position], reads_of(found)[position])
    # Noise that both classes share loudly is worth avoiding: neither end of the candidates is best.
    assert all(CANDIDATES[0] < value < CANDIDATES[-1] for value in chosen[1:])


@pytest.mark.parametrize("name", ["probe", "ensemble", "leace"])
def test_too_few_prompts_are_refused_by_their_number(name: str) -> None:
    method = EXTRACTORS.get(name)
    with pytest.raises(ConfigurationError, match=r"at least 10 prompts .* bad_prompts holds 9 and good_prompts 40; "):
        method.check(name, 9, 40)
    method.check(name, 10, 10)
    few = planted_classes(10, 24)
    extract(name, statistics_of(few[0]), statistics_of(few[1]), min_probe_accuracy=0.0)
