"""Edits of single heads and edits with offsets: three realisations that agree in float64, on every pico family."""

from collections.abc import Sequence

import pytest
import torch
from tests.models.pico import LIST_EXPERTS, kinds_first, pico_names, pico_token_ids
from tests.unit.editors.adjusted_models import adjustments_for, some_heads
from tests.unit.editors.test_realisations import build, plan_for, random_directions, residuals_and_logits
from torch import Tensor
from transformers import PreTrainedModel

from heretic.editors.adapter import adapter_factors, adapter_obstacle
from heretic.editors.cache import WeightCache
from heretic.editors.inplace import InplaceEditor
from heretic.editors.output_space import OutputSpaceEditor
from heretic.edits.algebra import Edit
from heretic.edits.build import Adjustments, build_edits
from heretic.edits.writer import ModelLayout
from heretic.models.access import oriented, post_norm_gain, writer_weight
from heretic.results.plan import Normalization

TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}
"""Some families compute norms and attention in fp32 whatever the dtype."""


def edits_for(
    model: PreTrainedModel,
    layout: ModelLayout,
    normalization: Normalization,
    adjustments: Adjustments,
    peak: float = 0.9,
) -> tuple[Edit, ...]:
    return build_edits(
        plan_for(layout, normalization, peak),
        random_directions(layout),
        layout,
        lambda writer: oriented(writer, writer_weight(model, writer).data),
        lambda writer: post_norm_gain(model, writer),
        adjustments,
    )


@pytest.mark.parametrize(("family", "normalization"), kinds_first([(each,) for each in Normalization]))
def test_inplace_and_output_space_agree(family: str, normalization: Normalization) -> None:
    model, layout = build(family)
    ids = pico_token_ids()
    unchanged, _ = residuals_and_logits(model, layout, ids)
    layout, found = adjustments_for(model, layout)
    assert found, "this family has neither heads nor biases, so nothing is compared"
    before, _ = residuals_and_logits(model, layout, ids)
    # Biases that were switched on are zero.
    torch.testing.assert_close(before, unchanged, **TOLERANCE)
    inplace = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    in_outputs_editor = OutputSpaceEditor(model, layout)
    for adjustments in found.values():
        edits = edits_for(model, layout, normalization, adjustments)
        inplace.apply(edits)
        in_weights, _ = residuals_and_logits(model, layout, ids)
        inplace.restore()
        in_outputs_editor.apply(edits)
        in_outputs, _ = residuals_and_logits(model, layout, ids)
        in_outputs_editor.restore()
        assert (in_weights - before).abs().max() > 1e-4
        torch.testing.assert_close(in_outputs, in_weights, **TOLERANCE)
    after, _ = residuals_and_logits(model, layout, ids)
    assert torch.equal(after, before)


@pytest.mark.parametrize("family", kinds_first(families=sorted(set(pico_names()) - set(pico_names(LIST_EXPERTS)))))
def test_rows_in_any_order_equal_candidates_alone(family: str) -> None:
    """Candidates with other heads, with whole writers, with and without offsets, and with no edit, side by side."""
    model, layout = build(family)
    layout, found = adjustments_for(model, layout)
    candidates: list[Sequence[Edit]] = [
        edits_for(model, layout, normalization, adjustments, peak)
        for (adjustments, normalization, peak) in zip(
            [*found.values(), Adjustments(), Adjustments(input_masks=some_heads(model, layout, turn=1))],
            [Normalization.NONE, Normalization.ROW, Normalization.COLUMN, Normalization.NONE, Normalization.ROW],
            [0.9, -0.7, 1.2, 0.8, 0.5],
            strict=False,
        )
    ]
    candidates.append([])
    count = len(candidates)
    ids = pico_token_ids(batch=count + 1, length=5)
    editor = OutputSpaceEditor(model, layout)
    alone = []
    for edits in candidates:
        editor.apply(edits)
        alone.append(residuals_and_logits(model, layout, ids)[0])
    editor.apply_candidates(candidates)
    for rows in ([*range(count)], [*reversed(range(count))], [0, *range(count)], [count - 1, 0, 0]):
        editor.assign_rows(rows)
        together, _ = residuals_and_logits(model, layout, ids[: len(rows)])
        expected = torch.stack([alone[candidate][row] for row, candidate in enumerate(rows)])
        torch.testing.assert_close(together, expected, **TOLERANCE)


@pytest.mark.parametrize("family", kinds_first())
def test_adapters_hold_edits_of_heads_and_no_offsets(family: str) -> None:
    model, layout = build(family)
    layout, found = adjustments_for(model, layout)
    editor = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    if "shifts" in found:
        shifted = edits_for(model, layout, Normalization.NONE, found["shifts"])
        assert "use-caa" in str(adapter_obstacle([edit for edit in shifted if edit.offset is not None]))
    if "heads" not in found:
        return
    edits = edits_for(model, layout, Normalization.NONE, found["heads"])
    assert adapter_obstacle(edits) is None
    with_norms = edits_for(model, layout, Normalization.ROW, found["heads"])
    assert "chosen heads" in str(adapter_obstacle(with_norms))
    factors = adapter_factors(edits, editor)
    originals = {edit.writer.path: editor.pristine_weight(edit.writer).clone() for edit in edits}
    editor.apply(edits)
    for edit in edits:
        own = factors[edit.writer.path]
        edited: Tensor = oriented(edit.writer, writer_weight(model, edit.writer).data)
        torch.testing.assert_close(originals[edit.writer.path] + own.b @ own.a, edited, rtol=1e-12, atol=1e-12)
        mask = edit.input_mask
        assert mask is not None
        assert torch.equal(edited[:, ~mask], originals[edit.writer.path][:, ~mask])
