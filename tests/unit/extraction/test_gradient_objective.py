"""Gradients in an edit: right on every pico family, however the passes are made, and nothing left behind."""

import itertools

import pytest
import torch
from tests.models.pico import pico_names
from tests.unit.engine.pico_engine import directions_for
from tests.unit.passes.pico_runner import make_runner

from heretic.extraction import gradient_objective as objective
from heretic.extraction.gradient_objective import Objective, onset_log_odds
from heretic.extraction.onset import Onset
from heretic.extraction.refinement import edits_of_scaled
from heretic.passes import choose, with_gradients
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

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
    sign: float = 1.0,
    tokens: tuple[int, ...] = OFTEN,
) -> Objective:
    rows = [tuple(tuple(runner.encode(Prompt(text, system="B"))) for text in texts) for texts in (GOOD, BAD)]
    return Objective(runner, edits_of_scaled(runner, 1.0), Onset(rows[0], rows[1], tokens), sign)


def vectors_for(runner: ModelRunner) -> torch.Tensor:
    """[L, D], what is refined: unit directions times the root of each layer's strength."""
    strengths = torch.linspace(0.2, 0.7, runner.layout.layer_count, dtype=torch.float64)
    return directions_for(runner.layout).vectors[1:, 0].double() * strengths.sqrt()[:, None]


def gradient(own: Objective, vectors: torch.Tensor, weight: float = WEIGHT) -> torch.Tensor:
    return own.gradient(vectors, weight, [*own.baseline_rows, *own.target_rows])[1]


def value(own: Objective, vectors: torch.Tensor) -> float:
    loss, _gradient = own.gradient(vectors, WEIGHT, [*own.baseline_rows, *own.target_rows])
    return loss.kl + WEIGHT * loss.log_odds


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_finite_and_agree_with_finite_differences(family: str) -> None:
    runner = double_runner(family)
    own, vectors = objective_for(runner), vectors_for(runner)
    found = gradient(own, vectors)
    assert bool(torch.isfinite(found).all())
    # Layers without an editable writer have no direction to speak of.
    edited = torch.zeros(len(found), dtype=torch.bool)
    edited[[writer.layer for writer in runner.layout.writers]] = True
    assert found.norm(dim=-1).gt(0).tolist() == edited.tolist()
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        way = torch.randn(found.shape, generator=generator, dtype=torch.float64)
        slope = float((found * way).sum())
        # Long steps may change which experts are chosen; short ones vanish in fp32, in which some families compute
        # norms and attention whatever the dtype.
        assert any(
            slope_along(own, vectors, way * size) / size == pytest.approx(slope, rel=2e-2, abs=2e-5)
            for size in (1e-2, 1e-3, 1e-4, 1e-5)
        )


def slope_along(own: Objective, vectors: torch.Tensor, step: torch.Tensor) -> float:
    return (value(own, vectors + step) - value(own, vectors - step)) / 2


def test_the_sign_turns_the_odds_but_not_the_divergence() -> None:
    runner = double_runner("llama")
    vectors = vectors_for(runner)
    removing, strengthening = objective_for(runner), objective_for(runner, sign=-1.0)
    divergence = gradient(removing, vectors, weight=0.0)
    odds = gradient(removing, vectors) - divergence
    torch.testing.assert_close(gradient(strengthening, vectors), divergence - odds)


def test_a_prompt_that_has_turned_far_enough_counts_no_more() -> None:
    runner = double_runner("llama")
    vectors, seldom = vectors_for(runner), (3, 11, 20)
    rare = objective_for(runner, tokens=seldom)
    loss, found = rare.gradient(vectors, WEIGHT, [*rare.baseline_rows, *rare.target_rows])
    assert loss.log_odds < -objective.ENOUGH
    torch.testing.assert_close(found, gradient(rare, vectors, weight=0.0))
    # Where the behaviour is to be strengthened, these are the ones that count.
    strengthening = objective_for(runner, sign=-1.0, tokens=seldom)
    assert float((gradient(strengthening, vectors) - found).norm()) > 1e-3


def test_chunks_and_shared_beginnings_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = double_runner("llama")
    vectors = vectors_for(runner)
    own = objective_for(runner)
    assert own.shared_tokens > 0
    expected = gradient(own, vectors)
    monkeypatch.setattr(objective, "chunk_tokens", lambda _runner: 1)
    torch.testing.assert_close(gradient(objective_for(runner), vectors), expected)
    monkeypatch.setattr(choose, "ragged_obstacle", lambda _loaded: "not here")
    ordinary = objective_for(runner)
    assert ordinary.shared_tokens == 0
    torch.testing.assert_close(gradient(ordinary, vectors), expected)


def test_as_few_chunks_as_fit_share_the_rows_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = double_runner("llama")
    longest = max(len(runner.encode(Prompt(text, system="B"))) for text in (*GOOD, *BAD))
    monkeypatch.setattr(objective, "chunk_tokens", lambda _runner: 5 * longest)
    own, sizes = objective_for(runner.calibrated(batch_size=5)), list[int]()

    def watch(_model: object, _arguments: object, keywords: dict[str, torch.Tensor]) -> None:
        sizes.append(len(keywords["input_ids"]))

    runner.loaded.model.register_forward_pre_hook(watch, with_kwargs=True)
    gradient(own, vectors_for(runner))
    # The shared beginning, and six rows, of which five would fit.
    assert sizes == [1, 3, 3]


@pytest.mark.parametrize(
    ("dtype", "tokens", "stepwise"),
    [
        (torch.bfloat16, 192, True),
        (torch.bfloat16, 1, False),
        (torch.float32, 192, False),
    ],
)
def test_short_rows_in_half_precision_go_back_through_attention_step_by_step(
    dtype: torch.dtype, tokens: int, stepwise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(with_gradients, "STEP_BY_STEP_TOKENS", tokens)
    runner, seen = make_runner("llama", batch_size=4, dtype=dtype), list[bool]()
    runner.loaded.model.requires_grad_(False)
    own = objective_for(runner)
    layer = runner.loaded.model.get_submodule(runner.layout.layer_paths[0])
    layer.register_forward_pre_hook(lambda *_arguments: seen.append(torch.backends.cuda.flash_sdp_enabled()))
    vectors = vectors_for(runner).float()
    found = gradient(own, vectors)
    assert set(seen) == {not stepwise}
    assert torch.backends.cuda.flash_sdp_enabled()
    reference = objective_for(double_runner("llama"))
    expected = gradient(reference, vectors.double()).to(found)
    assert float(torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)) > 0.9


def test_the_model_is_left_as_it_was() -> None:
    runner = double_runner("llama")
    rows = [runner.encode(Prompt(text)) for text in GOOD]
    with torch.no_grad():
        before = runner.first_token_logits(rows)
    own = objective_for(runner)
    gradient(own, vectors_for(runner))
    with torch.no_grad():
        assert torch.equal(runner.first_token_logits(rows), before)
    assert all(parameter.grad is None for parameter in runner.loaded.model.parameters())


def test_at_strength_zero_there_is_no_divergence() -> None:
    runner = double_runner("llama")
    own = objective_for(runner)
    loss, _gradient = own.gradient(
        torch.zeros_like(vectors_for(runner)), WEIGHT, [*own.baseline_rows, *own.target_rows]
    )
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
        found.append(gradient(objective_for(runner), vectors_for(runner)).double())
    assert torch.nn.functional.cosine_similarity(*map(torch.flatten, found), dim=0) > 0.99
    assert float(found[1].norm()) == pytest.approx(float(found[0].norm()), rel=0.1)
