"""One Edit, three realisations: in place, output space and adapter agree in float64 on every pico family."""

from collections.abc import Sequence

import pytest
import torch
from tests.models.pico import (
    FUSED_IN_OUT,
    FUSED_OUT_IN,
    LIST_EXPERTS,
    build_pico,
    families_with,
    pico_names,
    pico_token_ids,
)
from torch import Tensor
from transformers import PreTrainedModel

from heretic.common.errors import ModelError
from heretic.directions.types import DirectionSet
from heretic.editors import output_space
from heretic.editors.adapter import adapter_factors, adapter_obstacle
from heretic.editors.cache import WeightCache
from heretic.editors.inplace import InplaceEditor
from heretic.editors.output_space import OutputSpaceEditor
from heretic.edits.algebra import Edit
from heretic.edits.build import build_edits
from heretic.edits.writer import ModelLayout, WriterKind
from heretic.models.access import oriented, post_norm_gain, writer_weight
from heretic.models.layout import find_layout
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope

FAMILIES = pico_names()


def build(family: str) -> tuple[PreTrainedModel, ModelLayout]:
    """A pico model in float64; the grouped matrix product of fused experts knows no float64, so they run eagerly."""
    model = build_pico(family, dtype=torch.float64)
    model.set_experts_implementation("eager")
    return model, find_layout(model)


def random_directions(layout: ModelLayout, k: int = 2) -> DirectionSet:
    generator = torch.Generator().manual_seed(7)
    random = torch.randn(layout.layer_count + 1, layout.hidden_size, k, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(random).Q.mT.contiguous()
    weights = torch.tensor([1.0, 0.6], dtype=torch.float64)[:k].repeat(layout.layer_count + 1, 1)
    return DirectionSet(vectors, weights, torch.ones(layout.layer_count + 1), "random")


def plan_for(layout: ModelLayout, normalization: Normalization, peak: float = 0.9) -> EditPlan:
    schedule = Schedule(peak_weight=peak, peak_position=0.4, floor=0.5, width=1.0)
    return EditPlan(Scope.LAYER, None, tuple((name, schedule) for name in layout.components), normalization)


def edits_for(model: PreTrainedModel, layout: ModelLayout, plan: EditPlan) -> tuple[Edit, ...]:
    return build_edits(
        plan,
        random_directions(layout),
        layout,
        lambda writer: oriented(writer, writer_weight(model, writer).data),
        lambda writer: post_norm_gain(model, writer),
    )


@torch.no_grad()
def residuals_and_logits(model: PreTrainedModel, layout: ModelLayout, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Output of the last decoder layer (before the final norm, which may round to fp32), and the logits."""
    kept: list[Tensor] = []
    layer = model.get_submodule(layout.layer_paths[-1])

    def keep(_module: object, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    handle = layer.register_forward_hook(keep)
    logits = model(input_ids=ids, use_cache=False).logits
    handle.remove()
    return kept[0], logits


@pytest.mark.parametrize(("family", "normalization"), families_with(list(Normalization)))
def test_inplace_and_output_space_agree(family: str, normalization: Normalization) -> None:
    model, layout = build(family)
    ids = pico_token_ids()
    edits = edits_for(model, layout, plan_for(layout, normalization))
    before, logits_before = residuals_and_logits(model, layout, ids)

    inplace = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    inplace.apply(edits)
    in_weights, _ = residuals_and_logits(model, layout, ids)
    inplace.restore()

    output_space = OutputSpaceEditor(model, layout)
    output_space.apply(edits)
    in_outputs, _ = residuals_and_logits(model, layout, ids)
    output_space.restore()

    after, logits_after = residuals_and_logits(model, layout, ids)
    assert (in_weights - before).abs().max() > 1e-4, "the edit changes nothing, so agreement would mean nothing"
    # Some families compute norms and attention in fp32 whatever the dtype.
    torch.testing.assert_close(in_outputs, in_weights, rtol=2e-5, atol=2e-6)
    assert torch.equal(after, before)
    assert torch.equal(logits_after, logits_before)


@pytest.mark.parametrize("family", FAMILIES)
def test_candidates_in_one_batch_equal_candidates_alone(family: str) -> None:
    model, layout = build(family)
    ids = pico_token_ids()
    candidates: list[Sequence[Edit]] = [
        edits_for(model, layout, plan_for(layout, Normalization.NONE)),
        [],
        edits_for(model, layout, plan_for(layout, Normalization.ROW, peak=-0.7)),
        edits_for(model, layout, plan_for(layout, Normalization.COLUMN, peak=1.2))[:1],
    ]
    editor = OutputSpaceEditor(model, layout)
    alone = []
    for edits in candidates:
        editor.apply(edits)
        alone.append(residuals_and_logits(model, layout, ids)[0])
    if family in pico_names(LIST_EXPERTS):
        with pytest.raises(ModelError, match="one expert of a list"):
            editor.apply_candidates(candidates)
        editor.restore()
        return
    editor.apply_candidates(candidates)
    together, _ = residuals_and_logits(model, layout, ids.repeat(len(candidates), 1))
    torch.testing.assert_close(together, torch.cat(alone), rtol=2e-5, atol=2e-6)


ROWS = ([2, 0, 3, 0, 1, 2], [3, 3, 0], [1, 1, 2, 2], [0], [3, 2, 1, 0], [0, 1, 2, 3], [0, 0, 0, 1, 2])
"""Which candidate every row carries: mixed, unequal counts, equal blocks in another order, some of them only."""


ALL_PLAIN = (Normalization.NONE, Normalization.NONE, Normalization.NONE)
NORMS_KEPT = (Normalization.NONE, Normalization.ROW, Normalization.COLUMN)
FUSED = pico_names(FUSED_OUT_IN) + pico_names(FUSED_IN_OUT)


@pytest.mark.parametrize(
    ("family", "normalizations"),
    [(name, NORMS_KEPT) for name in FAMILIES if name not in pico_names(LIST_EXPERTS)]
    + [(name, ALL_PLAIN) for name in ("llama", "gemma3_text", *FUSED)],
)
def test_rows_in_any_order_equal_candidates_alone(family: str, normalizations: tuple[Normalization, ...]) -> None:
    """All plain: the sum over fused experts is edited where no bias forbids it. Norms kept: expert by expert."""
    model, layout = build(family)
    first, second, third = normalizations
    candidates: list[Sequence[Edit]] = [
        edits_for(model, layout, plan_for(layout, first)),
        [],
        edits_for(model, layout, plan_for(layout, second, peak=-0.7)),
        edits_for(model, layout, plan_for(layout, third, peak=1.2))[-1:],
    ]
    editor = OutputSpaceEditor(model, layout)
    # Every row its own tokens: one that got another's edit would show.
    ids = pico_token_ids(batch=max(map(len, ROWS)), length=5)
    alone = []
    for edits in candidates:
        editor.apply(edits)
        alone.append(residuals_and_logits(model, layout, ids)[0])
    assert (alone[0] - alone[2]).abs().max() > 1e-4
    editor.apply_candidates(candidates)
    for rows in ROWS:
        editor.assign_rows(rows)
        together, _ = residuals_and_logits(model, layout, ids[: len(rows)])
        expected = torch.stack([alone[candidate][row] for row, candidate in enumerate(rows)])
        torch.testing.assert_close(together, expected, rtol=2e-5, atol=2e-6)
    # Another assignment of as many rows must not meet what was gathered for the last one.
    editor.apply_candidates(candidates[::-1])
    together, _ = residuals_and_logits(model, layout, ids[:4])
    torch.testing.assert_close(together, torch.stack([alone[3 - row][row] for row in range(4)]), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("family", pico_names(FUSED_OUT_IN))
def test_fused_experts_edited_on_their_sum_equal_experts_edited_one_by_one(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, layout = build(family)
    ids = pico_token_ids()
    candidates = [edits_for(model, layout, plan_for(layout, Normalization.NONE, peak=peak)) for peak in (0.9, -0.7)]
    rows = [1, 0, 0]
    batch = ids[[0, 1, 0]]
    editor = OutputSpaceEditor(model, layout)

    def residuals() -> Tensor:
        editor.apply_candidates(candidates)
        editor.assign_rows(rows)
        found, _ = residuals_and_logits(model, layout, batch)
        editor.restore()
        return found

    calls: list[bool] = []
    decide = output_space._edits_sum

    def watch(*arguments: object) -> bool:
        calls.append(decide(*arguments))  # type: ignore[arg-type]  # handed on as it came
        return calls[-1]

    monkeypatch.setattr(output_space, "_edits_sum", watch)
    on_sum = residuals()
    assert any(calls), "no experts' sum was edited, so nothing is compared"
    monkeypatch.setattr(output_space, "_edits_sum", lambda *_: False)
    torch.testing.assert_close(on_sum, residuals(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("normalization", [Normalization.NONE, Normalization.ROW])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_gives_the_edited_weights(family: str, normalization: Normalization) -> None:
    model, layout = build(family)
    edits = edits_for(model, layout, plan_for(layout, normalization))
    editor = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    separate = [edit for edit in edits if edit.writer.kind is not WriterKind.FUSED_EXPERTS]
    if len(separate) < len(edits):
        assert "all experts in one tensor" in str(adapter_obstacle(edits))
    factors = adapter_factors(separate, editor)
    originals = {edit.writer.path: editor.pristine_weight(edit.writer).clone() for edit in separate}
    editor.apply(separate)
    for edit in separate:
        own = factors[edit.writer.path]
        assert own.rank == 2
        assert (own.row_norms is None) == (normalization is Normalization.NONE)
        edited = oriented(edit.writer, writer_weight(model, edit.writer).data)
        made = originals[edit.writer.path] + own.b @ own.a
        if own.row_norms is not None:
            made *= (own.row_norms / made.norm(dim=-1))[:, None]
        torch.testing.assert_close(made, edited, rtol=1e-12, atol=1e-12)


def test_rows_of_zeros_stay_so_in_an_adapter_and_weights_without_the_direction_need_none() -> None:
    """Else PEFT would divide their norms, 0, by 0."""
    model, layout = build("llama")
    edits = edits_for(model, layout, plan_for(layout, Normalization.ROW))
    first, second = edits[0].writer, edits[1].writer
    with torch.no_grad():
        writer_weight(model, first)[3] = 0
        writer_weight(model, second).zero_()
    editor = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    edits = edits_for(model, layout, plan_for(layout, Normalization.ROW))
    factors = adapter_factors(edits, editor)
    own = factors[first.path]
    made = editor.pristine_weight(first) + own.b @ own.a
    assert own.row_norms is not None
    assert float(own.row_norms[3]) == 0 < float(made.norm(dim=-1).min())
    assert second.path not in factors


def test_edits_that_scale_inputs_are_no_adapter() -> None:
    model, layout = build(FAMILIES[0])
    edits = edits_for(model, layout, plan_for(layout, Normalization.COLUMN))
    obstacle = adapter_obstacle(edits)
    assert obstacle is not None
    assert "norms of columns" in obstacle
    with pytest.raises(ValueError, match="norms of columns"):
        adapter_factors(edits, InplaceEditor(model, layout, WeightCache.capture(model, layout)))
