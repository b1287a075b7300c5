"""From a plan to edits: how strong, along which direction, and where not at all."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from heretic.directions.orthogonal import scaled_reads
from heretic.directions.types import DirectionSet
from heretic.edits.algebra import Edit, edited_weight
from heretic.edits.build import Adjustments, Shift, _interpolated, build_edits, combined_factors
from heretic.edits.writer import ATTENTION, MLP, ModelLayout, Orientation, ResidualWriter, WriterKind
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope

D, M, LAYERS = 12, 7, 5

shares = st.floats(0, 1)
schedules = st.builds(
    Schedule,
    peak_weight=st.floats(-2, 2),
    peak_position=shares,
    floor=shares,
    width=st.floats(0, 1.5),
)
plans = st.builds(
    EditPlan,
    scope=st.sampled_from(Scope),
    direction_position=st.none() | shares,
    schedules=st.lists(
        st.tuples(st.sampled_from([ATTENTION, MLP]), schedules), max_size=2, unique_by=lambda pair: pair[0]
    ).map(tuple),
    normalization=st.sampled_from(Normalization),
    shares=st.lists(shares, max_size=3).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(plans)
def test_a_plan_survives_json(plan: EditPlan) -> None:
    # Directions that all layers share have a position.
    assume(plan.scope is not Scope.GLOBAL or plan.direction_position is not None)
    assert EditPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@settings(max_examples=200, deadline=None)
@given(schedules, st.integers(1, 80), st.data())
def test_strength_lies_between_the_floor_and_the_peak_or_is_zero(
    schedule: Schedule, count: int, data: st.DataObject
) -> None:
    layer = data.draw(st.integers(0, count - 1))
    strength = schedule.strength(layer, count)
    distance = abs(layer / max(count - 1, 1) - schedule.peak_position)
    if distance > schedule.width:
        assert strength == 0
    else:
        low, high = sorted((schedule.peak_weight, schedule.peak_weight * schedule.floor))
        assert low - 1e-9 <= strength <= high + 1e-9


@settings(max_examples=100, deadline=None)
@given(schedules, st.integers(2, 60))
def test_strength_falls_on_both_sides_of_the_peak(schedule: Schedule, count: int) -> None:
    by_distance = sorted(range(count), key=lambda layer: abs(layer / (count - 1) - schedule.peak_position))
    sizes = [abs(schedule.strength(layer, count)) for layer in by_distance]
    assert all(near >= far - 1e-9 for near, far in pairwise(sizes))


def test_strength_by_formula() -> None:
    schedule = Schedule(peak_weight=2.0, peak_position=0.5, floor=0.25, width=0.5)
    assert [schedule.strength(layer, 5) for layer in range(5)] == [0.5, 1.25, 2.0, 1.25, 0.5]
    narrow = Schedule(peak_weight=2.0, peak_position=0.5, floor=0.25, width=0.2)
    assert [narrow.strength(layer, 5) for layer in range(5)] == [0, 0, 2.0, 0, 0]


def test_edges_of_the_schedule() -> None:
    point = Schedule(peak_weight=1.0, peak_position=1.0, floor=0.0, width=0.0)
    assert [point.strength(layer, 3) for layer in range(3)] == [0, 0, 1.0]
    assert Schedule(1.0, 0.0, 0.5, 0.1).strength(0, 1) == 1.0


def test_a_plan_of_an_earlier_version_is_read_written_and_compared_but_not_applied() -> None:
    plan = EditPlan(Scope.LAYER, None, ((MLP, Schedule(1.0, 0.5, 1.0, 1.0)),))
    without = {**plan.to_json(), "strengths": {}}
    free = {**plan.to_json(), "schedules": {}, "strengths": {MLP: [0.5, 1.0]}}
    assert EditPlan.from_json(without) == plan
    assert plan.is_stored_as(without)
    assert plan.is_stored_as(plan.to_json())
    earlier = EditPlan.from_json(free)
    assert earlier.to_json() == free
    assert earlier.is_stored_as(free)
    assert not plan.is_stored_as(free)
    assert not earlier.is_stored_as(without)
    with pytest.raises(ValueError, match="not applied"):
        earlier.strength(MLP, 0, 2)


def test_a_record_without_shares_is_read_and_written_as_ever() -> None:
    plan = EditPlan(Scope.LAYER, None, ((MLP, Schedule(1.0, 0.5, 1.0, 1.0)),))
    assert "shares" not in plan.to_json()
    assert EditPlan.from_json(plan.to_json()).shares == ()
    assert replace(plan, shares=(1.0, 0.5)).to_json()["shares"] == [1.0, 0.5]


def test_a_component_without_a_schedule_is_left_alone() -> None:
    plan = EditPlan(Scope.LAYER, None, ((MLP, Schedule(1.0, 0.5, 1.0, 1.0)),))
    assert plan.strength(ATTENTION, 1, 3) == 0
    assert plan.strength(MLP, 1, 3) == 1


def writer(layer: int, component: str) -> ResidualWriter:
    return ResidualWriter(
        layer, component, f"layers.{layer}.{component}", "weight", WriterKind.LINEAR, Orientation.OUT_IN, D, M
    )


LAYOUT = ModelLayout(
    "test",
    D,
    tuple(f"layers.{layer}" for layer in range(LAYERS)),
    tuple(writer(layer, component) for layer in range(LAYERS) for component in (ATTENTION, MLP)),
)


def directions(k: int = 1, seed: int = 0, related: bool = False) -> DirectionSet:
    """Random orthonormal vectors; related ones change little from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(LAYERS + 1, D, k, generator=generator, dtype=torch.float64)
    if related:
        random = random[:1] + 0.2 * random
    weights = torch.linspace(1, 0.5, k, dtype=torch.float64).repeat(LAYERS + 1, 1)
    weights = weights * torch.linspace(1, 0.6, LAYERS + 1, dtype=torch.float64)[:, None]
    basis, triangle = torch.linalg.qr(random)
    vectors = (basis * triangle.diagonal(dim1=-2, dim2=-1).sign()[:, None]).mT.contiguous()
    return DirectionSet(vectors, weights, torch.ones(LAYERS + 1), "test")


def weight_of(of: ResidualWriter) -> Tensor:
    generator = torch.Generator().manual_seed(of.layer * 2 + (of.component == MLP))
    return torch.randn(D, M, generator=generator, dtype=torch.float64)


def built(plan: EditPlan, found: DirectionSet, gain: Tensor | None = None) -> tuple[Edit, ...]:
    return build_edits(plan, found, LAYOUT, weight_of, lambda _writer: gain)


FULL = ((ATTENTION, Schedule(1.0, 0.5, 1.0, 1.0)), (MLP, Schedule(1.0, 0.5, 1.0, 1.0)))


def test_each_layer_loses_the_direction_of_its_own_output() -> None:
    """Layer l's writers make residual l + 1, so that is the direction that they must not write."""
    found = directions()
    edits = built(EditPlan(Scope.LAYER, None, FULL), found)
    assert [edit.writer for edit in edits] == list(LAYOUT.writers)
    for edit in edits:
        position = edit.writer.layer + 1
        assert torch.equal(edit.read, found.vectors[position].T)
        assert torch.equal(edit.write, found.vectors[position].T * found.weights[position])


def test_what_a_read_side_sees_is_what_is_written_away() -> None:
    """y' = y - w v (r^T y): strength 1 removes what the probe reads, whatever the direction itself would read."""
    found = directions(k=2)
    reads = torch.randn(LAYERS + 1, 2, D, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    found = replace(found, weights=torch.ones_like(found.weights), reads=scaled_reads(reads, found.vectors))
    assert found.reads is not None
    for edit in built(EditPlan(Scope.LAYER, None, FULL), found):
        position = edit.writer.layer + 1
        weight = weight_of(edit.writer)
        expected = weight - found.vectors[position].T @ (found.reads[position] @ weight)
        torch.testing.assert_close(edited_weight(weight, edit), expected)


def test_a_global_direction_keeps_its_read_side() -> None:
    found = directions(k=2, related=True)
    reads = found.vectors + 0.1 * torch.randn(found.vectors.shape, generator=torch.Generator().manual_seed(8))
    found = replace(found, reads=scaled_reads(reads, found.vectors))
    for edit in built(EditPlan(Scope.GLOBAL, 0.4, FULL), found):
        assert not torch.allclose(edit.read, _interpolated(found, 0.4).vectors.T)
        seen = (edit.read.T * _interpolated(found, 0.4).vectors).sum(-1)
        torch.testing.assert_close(seen, torch.ones(2, dtype=torch.float64))


def test_layers_with_factor_zero_are_left_alone() -> None:
    plan = EditPlan(Scope.LAYER, None, FULL)
    adjusted = build_edits(
        plan, directions(), LAYOUT, weight_of, lambda _writer: None, Adjustments((0.0, 1.0, 0.5, 0.0, 2.0))
    )
    plain = {edit.writer: edit for edit in built(plan, directions())}
    assert {edit.writer.layer for edit in adjusted} == {1, 2, 4}
    for edit in adjusted:
        factor = {1: 1.0, 2: 0.5, 4: 2.0}[edit.writer.layer]
        torch.testing.assert_close(edit.write, plain[edit.writer].write * factor)


def test_factors_of_several_sources_multiply() -> None:
    assert combined_factors(None, None) is None
    assert combined_factors(None, (0.5, 2.0)) == (0.5, 2.0)
    assert combined_factors((0.0, 3.0), None, (0.5, 2.0)) == (0.0, 6.0)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        combined_factors((1.0,), (1.0, 2.0))


def adjusted(plan: EditPlan, adjustments: Adjustments) -> tuple[Edit, ...]:
    return build_edits(plan, directions(), LAYOUT, weight_of, lambda _writer: None, adjustments)


@pytest.mark.parametrize("normalization", list(Normalization))
def test_with_masks_only_the_named_columns_of_the_named_writers_are_edited(normalization: Normalization) -> None:
    named = [writer for writer in LAYOUT.writers if writer.component == ATTENTION and writer.layer in (1, 3)]
    masks = {writer.path: torch.arange(writer.input_size) % 2 == 0 for writer in named}
    edits = adjusted(EditPlan(Scope.LAYER, None, FULL, normalization), Adjustments(input_masks=masks))
    assert [edit.writer for edit in edits] == named
    for edit in edits:
        weight = weight_of(edit.writer)
        changed = (edited_weight(weight, edit) - weight).abs().amax(0) > 0
        assert torch.equal(changed, masks[edit.writer.path])


def test_edited_layers_move_the_stream_and_later_ones_add_only_what_is_missing() -> None:
    vectors = torch.randn(LAYERS, D, generator=torch.Generator().manual_seed(4))
    by_layer = {writer.layer: writer for writer in LAYOUT.writers if writer.component == MLP}
    shifts = {layer: Shift(by_layer[layer].path, vectors[layer], 0.5) for layer in (0, 1, 3, 4)}
    # Layer 0 is not edited, so nothing moves there; the MLP of layer 1 has no other edit than its offset.
    plan = EditPlan(
        Scope.LAYER,
        None,
        ((ATTENTION, Schedule(1.0, 0.5, 1.0, 0.3)), (MLP, Schedule(1.0, 0.75, 1.0, 0.3))),
    )
    edits = adjusted(plan, Adjustments(shifts=shifts))
    assert [edit.writer for edit in edits] == [
        writer
        for writer in LAYOUT.writers
        if writer.layer in (1, 2, 3) or (writer.layer == 4 and writer.component == MLP)
    ]
    found = {edit.writer.layer: edit for edit in edits if edit.offset is not None}
    assert set(found) == {1, 3, 4}
    assert all(edit.writer.component == MLP for edit in found.values())
    moved = torch.zeros(D)
    for layer in (1, 3, 4):
        offset = found[layer].offset
        assert offset is not None
        moved = moved + 0.5 * offset
        torch.testing.assert_close(moved, vectors[layer])
    weight = weight_of(found[1].writer)
    assert torch.equal(edited_weight(weight, found[1]), weight)
    plain = {edit.writer: edit for edit in built(plan, directions())}
    assert torch.equal(found[3].write, plain[found[3].writer].write)


@pytest.mark.parametrize(("position", "index"), [(0.0, 1), (0.25, 2), (1.0, LAYERS)])
def test_a_global_direction_is_the_one_at_its_position(position: float, index: int) -> None:
    found = directions()
    for edit in built(EditPlan(Scope.GLOBAL, position, FULL), found):
        torch.testing.assert_close(edit.read[:, 0], found.vectors[index, 0])
        torch.testing.assert_close(edit.write[:, 0], found.vectors[index, 0] * found.weights[index, 0])


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.integers(1, 3), st.integers(0, 50))
def test_interpolated_directions_are_orthonormal_and_lie_between(position: float, k: int, seed: int) -> None:
    found = directions(k, seed, related=True)
    sides = _interpolated(found, position)
    vectors, weights = sides.vectors, sides.weights
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(k, dtype=torch.float64), rtol=0, atol=1e-9)
    index = 1 + position * (LAYERS - 1)
    lower, upper = int(index), min(int(index) + 1, LAYERS)
    between = (1 - (index - lower)) * found.vectors[lower, 0] + (index - lower) * found.vectors[upper, 0]
    torch.testing.assert_close(vectors[0], between / between.norm(), rtol=0, atol=1e-9)
    assert bool((torch.minimum(found.weights[lower], found.weights[upper]) - 1e-9 <= weights).all())
    assert bool((weights <= torch.maximum(found.weights[lower], found.weights[upper]) + 1e-9).all())
    # Mixing never turns a direction round: removal and strengthening would change places.
    assert bool(((vectors * found.vectors[lower]).sum(-1) > 0).all())


def test_interpolation_in_a_model_of_one_layer() -> None:
    found = directions()
    single = DirectionSet(found.vectors[:2], found.weights[:2], found.quality[:2], "test")
    for position in (0.0, 0.4, 1.0):
        torch.testing.assert_close(_interpolated(single, position).vectors, found.vectors[1])


def test_writers_without_strength_get_no_edit() -> None:
    plan = EditPlan(
        Scope.LAYER, None, ((ATTENTION, Schedule(1.0, 0.5, 1.0, 0.25)), (MLP, Schedule(0.0, 0.5, 1.0, 1.0)))
    )
    assert [edit.writer for edit in built(plan, directions())] == [writer(layer, ATTENTION) for layer in (1, 2, 3)]


@pytest.mark.parametrize("k", [1, 3])
def test_full_strength_removes_all_directions_from_the_weight(k: int) -> None:
    found = directions(k)
    found = DirectionSet(found.vectors, torch.ones_like(found.weights), found.quality, "test")
    for edit in built(EditPlan(Scope.LAYER, None, FULL), found):
        left = found.vectors[edit.writer.layer + 1] @ edited_weight(weight_of(edit.writer), edit)
        assert float(left.abs().max()) < 1e-12


@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize(
    ("k", "shares", "expected"),
    [
        (2, (1.0, 0.5), (1.0, 0.5)),
        (2, (0.0, 1.0), (0.0, 1.0)),
        (4, (0.25, 1.0), (0.25, 0.25, 1.0, 1.0)),
        (3, (0.5, 0.0, 1.0), (0.5, 0.0, 1.0)),
        (2, (), (1.0, 1.0)),
    ],
)
def test_each_behaviour_loses_its_share_of_its_own_directions(
    scope: Scope, k: int, shares: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    """Directions stand behaviour after behaviour, equally many of each."""
    found = directions(k, related=True)
    found = replace(found, weights=torch.ones_like(found.weights))
    position = 0.4 if scope is Scope.GLOBAL else None
    edits = built(EditPlan(scope, position, FULL, shares=shares), found)
    assert len(edits) == len(LAYOUT.writers)
    left_over = 1 - torch.tensor(expected, dtype=torch.float64)[:, None]
    for edit in edits:
        own = found.vectors[edit.writer.layer + 1] if position is None else _interpolated(found, position).vectors
        weight = weight_of(edit.writer)
        torch.testing.assert_close(own @ edited_weight(weight, edit), left_over * (own @ weight))


def test_a_share_takes_from_the_weight_that_a_direction_has() -> None:
    found = directions(2)
    whole, half = (built(EditPlan(Scope.LAYER, None, FULL, shares=shares), found) for shares in ((1, 1), (1, 0.5)))
    for one, other in zip(whole, half, strict=True):
        torch.testing.assert_close(other.write[:, 0], one.write[:, 0])
        torch.testing.assert_close(other.write[:, 1], one.write[:, 1] / 2)
        assert torch.equal(other.read, one.read)


@pytest.mark.parametrize("gain", [None, torch.linspace(0.5, 2.0, D, dtype=torch.float64)])
@pytest.mark.parametrize(("normalization", "axis"), [(Normalization.ROW, -1), (Normalization.COLUMN, -2)])
def test_norms_are_kept_where_asked(normalization: Normalization, axis: int, gain: Tensor | None) -> None:
    for edit in built(EditPlan(Scope.GLOBAL, 0.5, FULL, normalization), directions(2, related=True), gain):
        before = weight_of(edit.writer)
        after = edited_weight(before, edit)
        torch.testing.assert_close(after.norm(dim=axis), before.norm(dim=axis), rtol=1e-9, atol=1e-9)
        assert not torch.allclose(after, before, rtol=1e-3)


def test_behind_a_norm_the_direction_that_reaches_the_residual_is_removed() -> None:
    gain = torch.linspace(0.5, 2.0, D, dtype=torch.float64)
    found = directions()
    found = DirectionSet(found.vectors, torch.ones_like(found.weights), found.quality, "test")
    for edit in built(EditPlan(Scope.LAYER, None, FULL), found, gain):
        reaching = gain[:, None] * edited_weight(weight_of(edit.writer), edit)
        left = found.vectors[edit.writer.layer + 1] @ reaching
        assert float(left.abs().max()) < 1e-12
