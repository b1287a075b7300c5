"""The edit algebra against its own definition, in float64."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heretic.edits.algebra import (
    MINIMUM_GAIN,
    Edit,
    edited_output,
    edited_weight,
    keep_column_norms,
    keep_row_norms,
    low_rank_factors,
    projection,
)
from heretic.edits.writer import MLP, Orientation, ResidualWriter, WriterKind


def writer(output_size: int, input_size: int) -> ResidualWriter:
    return ResidualWriter(0, MLP, "layer", "weight", WriterKind.LINEAR, Orientation.OUT_IN, output_size, input_size)


def problem(seed: int, output_size: int, input_size: int, k: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(output_size, input_size, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(torch.randn(output_size, k, generator=generator, dtype=torch.float64)).Q.T
    return weight, vectors


shapes = st.tuples(st.integers(0, 10_000), st.integers(4, 24), st.integers(1, 30), st.integers(1, 4))
strengths = st.floats(-1.5, 2.0, allow_nan=False)


@given(shapes, strengths)
@settings(max_examples=60, deadline=None)
def test_plain_edit_is_the_formula(shape: tuple[int, int, int, int], strength: float) -> None:
    weight, vectors = problem(*shape)
    scale = torch.linspace(0.5, 1.0, shape[3], dtype=torch.float64) * strength
    edit = Edit(writer(*weight.shape), *projection(vectors, scale))
    expected = weight - vectors.T @ torch.diag(scale) @ vectors @ weight
    torch.testing.assert_close(edited_weight(weight, edit), expected)


@given(shapes)
@settings(max_examples=40, deadline=None)
def test_full_strength_removes_and_is_idempotent(shape: tuple[int, int, int, int]) -> None:
    weight, vectors = problem(*shape)
    edit = Edit(writer(*weight.shape), *projection(vectors, torch.ones(shape[3], dtype=torch.float64)))
    once = edited_weight(weight, edit)
    assert (vectors @ once).abs().max() < 1e-10
    torch.testing.assert_close(edited_weight(once, edit), once)


@given(shapes)
@settings(max_examples=40, deadline=None)
def test_strength_zero_changes_nothing(shape: tuple[int, int, int, int]) -> None:
    weight, vectors = problem(*shape)
    write, read = projection(vectors, torch.zeros(shape[3], dtype=torch.float64))
    row_write, row_read, row_scale = keep_row_norms(weight, write, read)
    edits = [
        Edit(writer(*weight.shape), write, read),
        Edit(writer(*weight.shape), row_write, row_read, output_scale=row_scale),
        Edit(writer(*weight.shape), write, read, input_scale=keep_column_norms(weight, write, read)),
    ]
    for edit in edits:
        torch.testing.assert_close(edited_weight(weight, edit), weight)


@given(shapes, strengths)
@settings(max_examples=60, deadline=None)
def test_row_norms_are_kept_exactly(shape: tuple[int, int, int, int], strength: float) -> None:
    weight, vectors = problem(*shape)
    write, read = projection(vectors, torch.full((shape[3],), strength, dtype=torch.float64))
    row_write, row_read, scale = keep_row_norms(weight, write, read)
    result = edited_weight(weight, Edit(writer(*weight.shape), row_write, row_read, output_scale=scale))
    # The definition, with the edited matrix formed: edit the row-normalised weight, normalise again, scale back.
    norms = weight.norm(dim=1, keepdim=True)
    unit = weight / norms
    changed = unit - write @ (read.T @ unit)
    survives = changed.norm(dim=1) > 1e-5
    expected = norms * changed / changed.norm(dim=1, keepdim=True)
    torch.testing.assert_close(result[survives], expected[survives], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(result.norm(dim=1)[survives], norms[:, 0][survives])


@given(shapes, strengths)
@settings(max_examples=60, deadline=None)
def test_column_norms_are_kept_exactly(shape: tuple[int, int, int, int], strength: float) -> None:
    weight, vectors = problem(*shape)
    write, read = projection(vectors, torch.full((shape[3],), strength, dtype=torch.float64))
    scale = keep_column_norms(weight, write, read)
    result = edited_weight(weight, Edit(writer(*weight.shape), write, read, input_scale=scale))
    changed = weight - write @ (read.T @ weight)
    survives = changed.norm(dim=0) > 1e-4 * weight.norm(dim=0)
    torch.testing.assert_close(result.norm(dim=0)[survives], weight.norm(dim=0)[survives])
    torch.testing.assert_close(result[:, survives], (changed * scale)[:, survives])
    if shape[3] == 1:
        cosine = (vectors @ weight)[0] / weight.norm(dim=0)
        formula = (1 - (2 * strength - strength**2) * cosine**2).clamp_min(1e-12).rsqrt()
        torch.testing.assert_close(scale[survives], formula[survives])


def test_a_column_wholly_along_the_direction_vanishes() -> None:
    direction = torch.tensor([[0.6, 0.8, 0.0]], dtype=torch.float64)
    weight = torch.cat([direction.T * 3, torch.tensor([[0.0], [0.0], [2.0]], dtype=torch.float64)], dim=1)
    write, read = projection(direction, torch.ones(1, dtype=torch.float64))
    scale = keep_column_norms(weight, write, read)
    result = edited_weight(weight, Edit(writer(3, 2), write, read, input_scale=scale))
    torch.testing.assert_close(result, torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 2.0]], dtype=torch.float64))


def test_zero_rows_stay_zero() -> None:
    weight, vectors = problem(3, 6, 4, 1)
    weight[2] = 0
    write, read = projection(vectors, torch.ones(1, dtype=torch.float64))
    row_write, row_read, scale = keep_row_norms(weight, write, read)
    result = edited_weight(weight, Edit(writer(6, 4), row_write, row_read, output_scale=scale))
    assert torch.isfinite(result).all()
    assert (result[2] == 0).all()


@given(shapes)
@settings(max_examples=40, deadline=None)
def test_post_norm_edit_removes_the_direction_behind_the_norm(shape: tuple[int, int, int, int]) -> None:
    weight, vectors = problem(shape[0], shape[1], shape[2], 1)
    gain = torch.rand(shape[1], generator=torch.Generator().manual_seed(shape[0]), dtype=torch.float64) + 0.2
    gain[0] = -gain[0]
    edit = Edit(writer(*weight.shape), *projection(vectors, torch.ones(1, dtype=torch.float64), gain))
    inputs = torch.randn(5, shape[2], dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def behind_norm(outputs: Tensor) -> Tensor:
        return outputs / outputs.norm(dim=-1, keepdim=True).clamp_min(1e-30) * gain

    outputs = inputs @ weight.T
    plain = outputs - (outputs @ vectors.T) @ vectors
    edited = inputs @ edited_weight(weight, edit).T
    assert (behind_norm(edited) @ vectors.T).abs().max() < 1e-8
    assert (behind_norm(plain) @ vectors.T).abs().max() > 1e-8 or shape[1] < 5


def test_tiny_gains_are_clamped() -> None:
    gain = torch.tensor([1.0, 1e-9, -1e-9])
    write, read = projection(torch.eye(3)[:, :3], torch.ones(3), gain)
    assert write.abs().max() <= 1 / MINIMUM_GAIN + 1e-3
    assert read[2, 2] == pytest.approx(-MINIMUM_GAIN)
    torch.testing.assert_close(read.T @ write, torch.eye(3))


@given(shapes, strengths)
@settings(max_examples=40, deadline=None)
def test_output_space_and_factors_equal_the_edited_weight(shape: tuple[int, int, int, int], strength: float) -> None:
    weight, vectors = problem(*shape)
    inputs = torch.randn(7, shape[2], dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    write, read = projection(vectors, torch.full((shape[3],), strength, dtype=torch.float64))
    plain = Edit(writer(*weight.shape), write, read)
    factor_a, factor_b = low_rank_factors(weight, plain)
    torch.testing.assert_close(weight + factor_b @ factor_a, edited_weight(weight, plain))
    row_write, row_read, scale = keep_row_norms(weight, write, read)
    row = Edit(writer(*weight.shape), row_write, row_read, output_scale=scale)
    torch.testing.assert_close(
        edited_output(inputs @ weight.T, row_write, row_read, scale), inputs @ edited_weight(weight, row).T
    )
    factor_a, factor_b = low_rank_factors(weight, row)
    torch.testing.assert_close(scale[:, None] * (weight + factor_b @ factor_a), edited_weight(weight, row))
    with pytest.raises(ValueError, match="no low-rank factors"):
        low_rank_factors(weight, replace(plain, input_scale=keep_column_norms(weight, write, read)))


def mask_of(seed: int, size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) < 0.6


@given(shapes, strengths)
@settings(max_examples=60, deadline=None)
def test_a_masked_edit_is_the_edit_of_the_chosen_columns_as_a_weight_of_their_own(
    shape: tuple[int, int, int, int], strength: float
) -> None:
    """All three kinds of norms, in the weight and in output space, on the whole matrix."""
    weight, vectors = problem(*shape)
    mask = mask_of(shape[0], shape[2])
    write, read = projection(vectors, torch.full((shape[3],), strength, dtype=torch.float64))
    masked, block = weight * mask, weight[:, mask]
    row, column = keep_row_norms(masked, write, read), keep_column_norms(masked, write, read)
    block_row = keep_row_norms(block, write, read)
    kinds = [
        (
            Edit(writer(*weight.shape), write, read, input_mask=mask),
            Edit(writer(*block.shape), write, read),
        ),
        (
            Edit(writer(*weight.shape), *row[:2], output_scale=row[2], input_mask=mask),
            Edit(writer(*block.shape), *block_row[:2], output_scale=block_row[2]),
        ),
        (
            Edit(writer(*weight.shape), write, read, input_scale=column, input_mask=mask),
            Edit(writer(*block.shape), write, read, input_scale=keep_column_norms(block, write, read)),
        ),
    ]
    inputs = torch.randn(7, shape[2], dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for edit, alone in kinds:
        result = edited_weight(weight, edit)
        assert torch.equal(result[:, ~mask], weight[:, ~mask])
        torch.testing.assert_close(result[:, mask], edited_weight(block, alone))
        scaled = inputs if edit.input_scale is None else inputs * edit.input_scale
        part = scaled * mask @ weight.T
        outputs = scaled @ weight.T + edited_output(part, edit.write, edit.read, edit.output_scale) - part
        torch.testing.assert_close(outputs, inputs @ result.T, rtol=1e-6, atol=1e-9)
    plain = kinds[0][0]
    factor_a, factor_b = low_rank_factors(weight, plain)
    torch.testing.assert_close(weight + factor_b @ factor_a, edited_weight(weight, plain))


@given(shapes, st.floats(-1.5, 0.9, allow_nan=False))
@settings(max_examples=40, deadline=None)
def test_masked_edits_keep_the_norms_of_the_whole_matrix(shape: tuple[int, int, int, int], strength: float) -> None:
    weight, vectors = problem(*shape)
    mask = mask_of(shape[0], shape[2])
    write, read = projection(vectors, torch.full((shape[3],), strength, dtype=torch.float64))
    row_write, row_read, scale = keep_row_norms(weight * mask, write, read)
    rows = edited_weight(weight, Edit(writer(*weight.shape), row_write, row_read, output_scale=scale, input_mask=mask))
    columns = edited_weight(
        weight,
        Edit(
            writer(*weight.shape),
            write,
            read,
            input_scale=keep_column_norms(weight * mask, write, read),
            input_mask=mask,
        ),
    )
    torch.testing.assert_close(rows.norm(dim=1), weight.norm(dim=1))
    torch.testing.assert_close(columns.norm(dim=0), weight.norm(dim=0))


def test_experts_are_edited_each_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    experts = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(torch.randn(6, 2, generator=generator, dtype=torch.float64)).Q.T
    write, read = projection(vectors, torch.tensor([0.8, 0.3], dtype=torch.float64))
    row_write, row_read, scale = keep_row_norms(experts, write, read)
    together = edited_weight(experts, Edit(writer(6, 4), row_write, row_read, output_scale=scale))
    for index, expert in enumerate(experts):
        alone_write, alone_read, alone_scale = keep_row_norms(expert, write, read)
        alone = edited_weight(expert, Edit(writer(6, 4), alone_write, alone_read, output_scale=alone_scale))
        torch.testing.assert_close(together[index], alone)


def test_low_precision_weights_are_edited_in_fp32() -> None:
    weight, vectors = problem(1, 16, 12, 1)
    edit = Edit(writer(16, 12), *projection(vectors.float(), torch.ones(1)))
    exact = edited_weight(weight.float(), edit)
    assert edited_weight(weight.bfloat16(), edit).dtype == torch.bfloat16
    torch.testing.assert_close(edited_weight(weight.bfloat16(), edit).float(), exact, rtol=0.02, atol=0.03)
