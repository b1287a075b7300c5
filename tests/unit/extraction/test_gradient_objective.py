"""Gradients in the strengths: right on every pico family, however the passes are made, and nothing left behind."""

import itertools

import pytest
import torch
from tests.models.pico import pico_names
from tests.unit.engine.pico_engine import directions_for
from tests.unit.passes.pico_runner import make_runner

from heretic.edits.build import build_edits
from heretic.edits.scalable import edits_of_strengths, scalable_edits
from heretic.extraction import gradient_objective as objective
from heretic.extraction.gradient_objective import Objective, onset_log_odds
from heretic.extraction.onset import Onset
from heretic.models.access import oriented, post_norm_gain, writer_weight
from heretic.passes import with_gradients as passes
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt
from heretic.results.plan import EditPlan, Normalization, Scope

FAMILIES = pico_names()
GOOD = ("Hi", "2?", "abc")
BAD = ("No", "so?", "x")
WEIGHT = 0.3
OFTEN = tuple(range(3, 203, 2))
"""So many tokens that random models begin with one of them often."""


def double_runner(family: str) -> ModelRunner:
    """In float64; the grouped product of fused experts knows none, so they run eagerly."""
    runner = make_runner(family, batch_size=4, dtype=torch.float64)
    runner.loaded.model.set_experts_implementation("eager")
    runner.loaded.model.requires_grad_(False)
    return runner


def objective_for(
    runner: ModelRunner,
    normalization: Normalization = Normalization.ROW,
    sign: float = 1.0,
    tokens: tuple[int, ...] = OFTEN,
) -> Objective:
    model = runner.loaded.model
    edits = scalable_edits(
        directions_for(runner.layout),
        runner.layout,
        normalization,
        lambda writer: oriented(writer, writer_weight(model, writer).data),
        lambda writer: post_norm_gain(model, writer),
    )
    rows = [tuple(tuple(runner.encode(Prompt(text, system="B"))) for text in texts) for texts in (GOOD, BAD)]
    edits_of = edits_of_strengths(edits, runner.layout.components)
    return Objective(runner, edits_of, Onset(rows[0], rows[1], tokens), sign)


def strengths_for(runner: ModelRunner) -> torch.Tensor:
    layout = runner.layout
    values = torch.linspace(0.2, 0.7, len(layout.components) * layout.layer_count, dtype=torch.float64)
    return values.reshape(len(layout.components), -1)


def gradient(own: Objective, strengths: torch.Tensor, weight: float = WEIGHT) -> torch.Tensor:
    return own.gradient(strengths, weight, [*own.good_rows, *own.bad_rows])[1]


def value(own: Objective, strengths: torch.Tensor) -> float:
    loss, _gradient = own.gradient(strengths, WEIGHT, [*own.good_rows, *own.bad_rows])
    return loss.kl + WEIGHT * loss.log_odds


def assert_finite_differences(runner: ModelRunner, normalization: Normalization) -> None:
    own, strengths = objective_for(runner, normalization), strengths_for(runner)
    found = gradient(own, strengths)
    # Layers and components without an editable writer have no strength to speak of.
    edited = torch.zeros_like(found, dtype=torch.bool)
    for writer in runner.layout.writers:
        edited[runner.layout.components.index(writer.component), writer.layer] = True
    assert bool(torch.isfinite(found).all())
    assert bool((found[edited] != 0).all())
    assert bool((found[~edited] == 0).all())
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        way = torch.randn(found.shape, generator=generator, dtype=torch.float64)
        slope = float((found * way).sum())
        # Long steps may change which experts are chosen; short ones vanish in fp32, in which some families compute
        # norms and attention whatever the dtype.
        assert any(
            slope_along(own, strengths, way * size) / size == pytest.approx(slope, rel=2e-2, abs=2e-5)
            for size in (1e-2, 1e-3, 1e-4, 1e-5)
        )


def slope_along(own: Objective, strengths: torch.Tensor, step: torch.Tensor) -> float:
    return (value(own, strengths + step) - value(own, strengths - step)) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_finite_and_agree_with_finite_differences(family: str) -> None:
    assert_finite_differences(double_runner(family), Normalization.ROW)


@pytest.mark.parametrize("normalization", [Normalization.NONE, Normalization.COLUMN])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_other_norms(family: str, normalization: Normalization) -> None:
    assert_finite_differences(double_runner(family), normalization)


@pytest.mark.parametrize("normalization", list(Normalization))
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_scalable_edits_are_the_edits_of_a_plan(family: str, normalization: Normalization) -> None:
    runner = double_runner(family)
    model, layout, directions = runner.loaded.model, runner.layout, directions_for(runner.layout)

    def weight_of(writer):
        return oriented(writer, writer_weight(model, writer).data)

    def gain_of(writer):
        return post_norm_gain(model, writer)

    strengths = strengths_for(runner) - 0.45
    rows = tuple(zip(layout.components, map(tuple, strengths.tolist()), strict=True))
    plan = EditPlan(Scope.LAYER, None, (), normalization, rows)
    expected = build_edits(plan, directions, layout, weight_of, gain_of)
    scalable = scalable_edits(directions, layout, normalization, weight_of, gain_of)
    found = [edit.at(strengths[layout.components.index(edit.writer.component), edit.writer.layer]) for edit in scalable]
    for own, other in zip(found, expected, strict=True):
        assert own.writer == other.writer
        for side in ("write", "read", "input_scale", "output_scale"):
            torch.testing.assert_close(
                getattr(own, side), getattr(other, side), rtol=1e-6, atol=1e-7, check_dtype=False
            )


def test_the_sign_turns_the_odds_but_not_the_divergence() -> None:
    runner = double_runner("llama")
    strengths = strengths_for(runner)
    removing, strengthening = objective_for(runner), objective_for(runner, sign=-1.0)
    divergence = gradient(removing, strengths, weight=0.0)
    odds = gradient(removing, strengths) - divergence
    torch.testing.assert_close(gradient(strengthening, strengths), divergence - odds)


def test_a_prompt_that_has_turned_far_enough_counts_no_more() -> None:
    runner = double_runner("llama")
    strengths, seldom = strengths_for(runner), (3, 11, 20)
    rare = objective_for(runner, tokens=seldom)
    loss, found = rare.gradient(strengths, WEIGHT, [*rare.good_rows, *rare.bad_rows])
    assert loss.log_odds < -objective.ENOUGH
    torch.testing.assert_close(found, gradient(rare, strengths, weight=0.0))
    # Where the behaviour is to be strengthened, these are the ones that count.
    strengthening = objective_for(runner, sign=-1.0, tokens=seldom)
    assert float((gradient(strengthening, strengths) - found).norm()) > 1e-3


def test_chunks_and_shared_beginnings_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = double_runner("llama")
    strengths = strengths_for(runner)
    own = objective_for(runner)
    assert own.shared_tokens > 0
    expected = gradient(own, strengths)
    monkeypatch.setattr(objective, "CHUNK_TOKENS", 1)
    torch.testing.assert_close(gradient(own, strengths), expected)
    monkeypatch.setattr(passes, "ragged_obstacle", lambda _loaded: "not here")
    ordinary = objective_for(runner)
    assert ordinary.shared_tokens == 0
    torch.testing.assert_close(gradient(ordinary, strengths), expected)


def test_the_model_is_left_as_it_was() -> None:
    runner = double_runner("llama")
    rows = [runner.encode(Prompt(text)) for text in GOOD]
    with torch.no_grad():
        before = runner.first_token_logits(rows)
    own = objective_for(runner)
    gradient(own, strengths_for(runner))
    with torch.no_grad():
        assert torch.equal(runner.first_token_logits(rows), before)
    assert all(parameter.grad is None for parameter in runner.loaded.model.parameters())


def test_at_strength_zero_there_is_no_divergence() -> None:
    runner = double_runner("llama")
    own = objective_for(runner)
    loss, _gradient = own.gradient(torch.zeros_like(strengths_for(runner)), WEIGHT, [*own.good_rows, *own.bad_rows])
    assert loss.kl == pytest.approx(0, abs=1e-12)


def test_log_odds() -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]], dtype=torch.float64)
    found = onset_log_odds(probabilities.log() + 5, torch.tensor([1, 3]))
    torch.testing.assert_close(found, torch.tensor([0.6 / 0.4, 0.2 / 0.8], dtype=torch.float64).log())
    pairs = itertools.pairwise(onset_log_odds(probabilities.log(), torch.tensor([0])).tolist())
    assert all(a < b for a, b in pairs)


def test_half_precision_gives_about_the_same_gradient() -> None:
    found = []
    for dtype in (torch.float64, torch.float16):
        runner = make_runner("llama", batch_size=4, dtype=dtype)
        runner.loaded.model.requires_grad_(False)
        found.append(gradient(objective_for(runner), strengths_for(runner)).double())
    assert torch.nn.functional.cosine_similarity(*map(torch.flatten, found), dim=0) > 0.99
    assert float(found[1].norm()) == pytest.approx(float(found[0].norm()), rel=0.1)
