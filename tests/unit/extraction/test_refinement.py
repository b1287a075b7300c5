"""Directions refined by gradient: better on the loss they are refined for, on every pico family, and well formed."""

from dataclasses import replace

import pytest
import torch
from tests.models.pico import kinds_first
from tests.unit.engine.pico_engine import directions_for
from tests.unit.passes.pico_runner import make_runner

from heretic.common.errors import HereticError, ModelError, OutOfMemoryError
from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.extraction import find, refinement
from heretic.extraction.find import refines
from heretic.extraction.gradient_objective import Objective
from heretic.extraction.onset import Onset
from heretic.extraction.refinement import edits_of_scaled, refined, with_scaled
from heretic.models.access import post_norm_gain
from heretic.observability.events import Event, GradientStep, RefinementFinished, Warned, subscribed
from heretic.passes import choose as choosing
from heretic.passes.choose import Choice, choose
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet

GOOD = tuple(Prompt(text, system="B") for text in ("Hi", "2?", "abc", "oh"))
BAD = tuple(Prompt(text, system="B") for text in ("No", "so?", "x", "why"))
ONSET = tuple(range(3, 203, 2))
"""Many tokens, so that random models begin with one of them often enough for it to be worth less."""


def frozen_runner(family: str) -> ModelRunner:
    runner = make_runner(family, batch_size=4)
    runner.loaded.model.requires_grad_(False)
    return runner


def onset_of(runner: ModelRunner) -> Onset:
    rows = [tuple(tuple(runner.encode(prompt)) for prompt in prompts) for prompts in (GOOD, BAD)]
    return Onset(rows[0], rows[1], ONSET)


def choice_of(runner: ModelRunner) -> Choice:
    return choose(runner, [runner.encode(prompt) for prompt in (*GOOD, *BAD)])


def one_direction(runner: ModelRunner) -> DirectionSet:
    own = directions_for(runner.layout)
    return replace(own, vectors=own.vectors[:, :1], weights=torch.ones_like(own.weights[:, :1]), reads=None)


def scaled_of(directions: DirectionSet, strength: float) -> torch.Tensor:
    lengths = (directions.weights[1:, 0] * strength).sqrt()
    return directions.vectors[1:, 0] * lengths[:, None]


def refine(
    runner: ModelRunner,
    monkeypatch: pytest.MonkeyPatch,
    steps: int = 30,
    max_kl: float = 1.0,
    goal: str = "remove",
) -> DirectionSet:
    monkeypatch.setattr(refinement, "find_onset", lambda *_arguments: onset_of(runner))
    settings = Settings(rdo_steps=steps, rdo_prompts=4, rdo_max_kl=max_kl, goal=goal)
    return refined(settings, choice_of(runner), one_direction(runner), GOOD, BAD, lambda _text: True)


def log_odds(runner: ModelRunner, directions: DirectionSet, sign: float = 1.0) -> float:
    own = Objective(runner, edits_of_scaled(runner, sign), onset_of(runner), sign)
    return own.gradient(scaled_of(directions, 0.3), 1.0, [*own.baseline_rows, *own.target_rows])[0].log_odds


@pytest.mark.parametrize("family", kinds_first())
def test_less_of_the_behaviour_is_left_with_refined_directions(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = frozen_runner(family)
    before = one_direction(runner)
    after = refine(runner, monkeypatch)
    assert after.vectors.shape == before.vectors.shape
    torch.testing.assert_close(after.vectors.norm(dim=-1), torch.ones_like(after.vectors[..., 0]))
    assert bool(((after.weights >= 0) & (after.weights <= 1)).all())
    assert bool(((after.vectors * before.vectors).sum(-1) >= 0).all())
    assert log_odds(runner, after) < log_odds(runner, replace(before, weights=after.weights)) - 1e-4
    assert runner.loaded.model.get_input_embeddings().weight.grad is None


def test_strengthening_raises_the_odds(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = frozen_runner("llama")
    before = one_direction(runner)
    after = refine(runner, monkeypatch, goal="strengthen")
    assert log_odds(runner, after, -1.0) > log_odds(runner, replace(before, weights=after.weights), -1.0)
    # Removing lowers them; as far as edits are small, the same directions would do both.
    assert log_odds(runner, after, -1.0) > log_odds(runner, refine(runner, monkeypatch), -1.0)


def test_behind_a_norm_the_direction_that_arrives_is_the_one_removed() -> None:
    runner = frozen_runner("gemma2")
    vectors = directions_for(runner.layout).vectors[1:, 0].float() / 2
    gained = 0
    for edit in edits_of_scaled(runner, 1.0)(vectors):
        gain = post_norm_gain(runner.loaded.model, edit.writer)
        assert gain is not None
        output, vector = torch.linspace(-1, 2, len(gain)), vectors[edit.writer.layer]
        edited = output - edit.write[:, 0] * (edit.read[:, 0] @ output)
        arriving = gain.float() * output
        torch.testing.assert_close(gain.float() * edited, arriving - vector * (vector @ arriving))
        gained += not torch.equal(gain, torch.ones_like(gain))
    assert gained


def test_the_divergence_is_held_below_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    for bound in (1e-5, 10.0):
        seen: list[Event] = []
        with subscribed(seen.append):
            refine(frozen_runner("llama"), monkeypatch, steps=40, max_kl=bound)
        assert sum(isinstance(event, GradientStep) for event in seen) == 40
        ended.append(next(event for event in seen if isinstance(event, RefinementFinished)))
    tight, loose = ended
    assert tight.kl < loose.kl / 2
    assert tight.share > loose.share


def test_without_an_onset_the_directions_stay_as_they_are() -> None:
    runner = frozen_runner("llama")
    directions, seen = one_direction(runner), []
    settings = Settings(rdo_steps=3, rdo_prompts=4)
    with subscribed(seen.append):
        assert refined(settings, choice_of(runner), directions, GOOD, BAD, lambda _text: False) is directions
    assert "only 0 answers" in next(event.message for event in seen if isinstance(event, Warned))


def test_lengths_become_weights_and_sides_are_kept() -> None:
    vectors = torch.eye(4)[:3, None]
    directions = DirectionSet(vectors, torch.ones(3, 1), torch.tensor([1.0, 2.0, 3.0]), "rdo")
    found = with_scaled(directions, torch.tensor([[0.0, -2.0, 0.0, 0.0], [0.0, 0.0, 0.6, 0.8]]))
    torch.testing.assert_close(found.vectors[1, 0], torch.tensor([0.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(found.vectors[2, 0], torch.tensor([0.0, 0.0, 0.6, 0.8]))
    torch.testing.assert_close(found.weights[:, 0], torch.tensor([1.0, 1.0, 0.25]))
    torch.testing.assert_close(found.quality, torch.tensor([1.0, 2.0, 1.8]))


def prompt_sets() -> tuple[PromptSet, PromptSet]:
    return PromptSet("good", GOOD), PromptSet("bad", BAD)


def test_only_some_extractors_are_refined() -> None:
    assert refines(Settings(extractor="rdo"))
    assert not refines(Settings(extractor="mean"))


def test_passes_are_compared_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """For statistics, answers, gradients and the baseline; weights are in their plain order behind the directions."""
    runner, (good, bad), compared = frozen_runner("llama"), prompt_sets(), list[object]()
    alike = choosing.predicts_alike
    monkeypatch.setattr(choosing, "predicts_alike", lambda *asked: compared.append(asked) or alike(*asked))
    monkeypatch.setattr(refinement, "find_onset", lambda *_arguments: onset_of(runner))
    settings = Settings(model="x", transforms=[], rdo_steps=1, rdo_prompts=4)
    find.find_directions(settings, runner, bad, good)
    assert choose(runner, [runner.encode(prompt) for prompt in (*GOOD, *BAD)]).slower is None
    assert len(compared) == 1
    assert not any(bool(parameter.isnan().any()) for parameter in runner.loaded.model.parameters())


@pytest.mark.parametrize("error", [OutOfMemoryError("no room."), ModelError("not finite.")], ids=str)
def test_a_refinement_that_nobody_asked_for_may_fail(error: HereticError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> DirectionSet:
        raise error

    monkeypatch.setattr(find, "refined", fail)
    runner, (good, bad), seen = frozen_runner("llama"), prompt_sets(), list[Event]()
    with subscribed(seen.append):
        found = find.find_directions(Settings(model="x", transforms=[]), runner, bad, good)
    assert [str(error) in event.message for event in seen if isinstance(event, Warned)] == [True]
    plain = find.find_directions(Settings(model="x", transforms=[], extractor="mean"), runner, bad, good)
    torch.testing.assert_close(found.directions.vectors, plain.directions.vectors)
    with pytest.raises(type(error)):
        find.find_directions(Settings(model="x", transforms=[], extractor="rdo"), runner, bad, good)
