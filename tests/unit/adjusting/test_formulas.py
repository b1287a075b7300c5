"""Activation factors, compliance directions and head attributions against their definitions."""

import pytest
import torch

from heretic.adjusting.activation import activation_factors, projection_lengths
from heretic.adjusting.caa import compliance_directions, overlaps
from heretic.adjusting.circuits import head_attributions


def test_activation_is_the_length_along_the_direction_of_each_layers_output() -> None:
    generator = torch.Generator().manual_seed(0)
    residuals = torch.randn(5, 4, 8, generator=generator)
    vectors = torch.linalg.qr(torch.randn(4, 8, 2, generator=generator)).Q.mT
    one = projection_lengths(residuals, vectors[:, :1])
    assert one.shape == (5, 3)
    for prompt in range(5):
        for layer in range(3):
            expected = abs(float(residuals[prompt, layer + 1] @ vectors[layer + 1, 0]))
            assert float(one[prompt, layer]) == pytest.approx(expected, rel=1e-5)
    both = projection_lengths(residuals, vectors)
    second = projection_lengths(residuals, vectors[:, 1:])
    torch.testing.assert_close(both, (one**2 + second**2).sqrt())


def test_factors_are_percentiles_relative_to_their_mean() -> None:
    # Layer l has activations l+1 times those of layer 0, whose third quartile is 4.
    base = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    lengths = torch.stack([base, 2 * base, 3 * base], dim=1)
    assert activation_factors(lengths, 0.75, 0.0, 100.0) == pytest.approx((0.5, 1.0, 1.5))
    assert activation_factors(lengths, 0.75, 0.8, 1.2) == pytest.approx((0.8, 1.0, 1.2))
    lengths[-1, 0] = 1e6
    assert activation_factors(lengths, 0.75, 0.0, 100.0) == pytest.approx((0.5, 1.0, 1.5)), "an outlier counts for all"
    assert activation_factors(lengths, 1.0, 0.0, 100.0)[0] > 2.9
    assert activation_factors(torch.zeros(3, 2), 0.75, 0.5, 2.0) == (1.0, 1.0)


def test_the_compliance_direction_points_to_what_is_answered() -> None:
    answered, refused = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    assert compliance_directions(answered, refused).tolist() == [[1.0, -2.0]]


def test_overlap_is_the_cosine_with_the_span_whatever_the_sign() -> None:
    vectors = torch.eye(3)[:2].repeat(4, 1, 1)
    compliance = torch.tensor([[-3.0, 0.0, 4.0], [0.0, 0.0, 2.0], [3.0, -4.0, 0.0], [0.0, 0.0, 0.0]])
    assert overlaps(compliance, vectors).tolist() == pytest.approx([0.6, 0.0, 1.0, 1.0])
    assert overlaps(compliance, vectors[:, 1:]).tolist() == pytest.approx([0.0, 0.0, 0.8, 1.0])


def test_attributions_add_up_to_what_the_projection_writes() -> None:
    generator = torch.Generator().manual_seed(3)
    weight, read = torch.randn(6, 12, generator=generator), torch.randn(6, generator=generator)
    difference = torch.randn(12, generator=generator)
    found = head_attributions(weight, read, difference, 4)
    assert float(found.sum()) == pytest.approx(float(read @ weight @ difference), rel=1e-4)
    only = torch.zeros(12)
    only[3:6] = difference[3:6]
    assert head_attributions(weight, read, only, 4).tolist() == pytest.approx([0, float(found[1]), 0, 0], abs=1e-6)
