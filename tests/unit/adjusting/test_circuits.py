"""Heads are found where the behaviour was planted, and confirmed by what editing them does."""

import pytest
import torch
from tests.models.pico import build_pico, pico_names
from tests.unit.passes.pico_runner import make_runner

from heretic.adjusting import circuits
from heretic.adjusting.circuits import Head, find_circuits, head_masks, heads_note
from heretic.common.errors import UserError
from heretic.directions.types import DirectionSet
from heretic.editors.cache import WeightCache
from heretic.editors.inplace import InplaceEditor
from heretic.models.heads import head_columns
from heretic.observability.events import Event, Warned, subscribed
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet

TARGET = PromptSet("target", tuple(Prompt(f"zorble {number}") for number in range(6)))
BASELINE = PromptSet("baseline", tuple(Prompt(f"How is {number}?") for number in range(6)))


def editor_of(runner: ModelRunner) -> InplaceEditor:
    model, layout = runner.loaded.model, runner.layout
    return InplaceEditor(model, layout, WeightCache.capture(model, layout))


def mean_last(runner: ModelRunner, prompts: PromptSet) -> torch.Tensor:
    """[L+1, D]."""
    return torch.cat([residuals.float() for residuals in runner.residuals(prompts.prompts)]).mean(0)


def mean_directions(runner: ModelRunner) -> DirectionSet:
    difference = mean_last(runner, TARGET) - mean_last(runner, BASELINE)
    vectors = torch.nn.functional.normalize(difference, dim=-1)[:, None]
    return DirectionSet(vectors, torch.ones(vectors.shape[:2]), torch.ones(len(vectors)), "mean")


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "mistral"])
def test_the_head_that_alone_writes_the_difference_is_found(family: str) -> None:
    """All output columns but those of one head are zero, so no other head can carry anything."""
    runner = make_runner(family, batch_size=4)
    planted, head = head_columns(runner.loaded.model, runner.layout)[1], 2
    for own in head_columns(runner.loaded.model, runner.layout):
        weight = runner.loaded.model.get_submodule(own.writer.path).weight.data
        columns = weight if family != "gpt2" else weight.T
        keep = own.mask([head]) if own == planted else torch.zeros(own.writer.input_size, dtype=torch.bool)
        columns[:, ~keep] = 0
    directions = mean_directions(runner)
    seen: list[Event] = []
    with subscribed(seen.append):
        found = find_circuits(runner, TARGET, BASELINE, directions, editor_of(runner), 2)
    assert [(own.columns.writer.layer, own.index) for own in found] == [(planted.writer.layer, head)]
    assert [event.message for event in seen if isinstance(event, Warned)] == [
        "Only 1 of the 2 heads that n_refusal_circuits asks for were confirmed."
    ]


@pytest.mark.parametrize("family", pico_names())
def test_effects_are_what_editing_the_heads_in_the_weights_does(family: str) -> None:
    """On every family: confirmed heads come strongest first, and the effect is measured the other way, too."""
    runner = make_runner(family, batch_size=4)
    directions, editor = mean_directions(runner), editor_of(runner)
    found = find_circuits(runner, TARGET, BASELINE, directions, editor, 3)
    effects = [head.effect or 0.0 for head in found]
    assert effects == sorted(effects, reverse=True)
    assert min(effects) > 0
    assert len({(head.columns.writer.path, head.index) for head in found}) == len(found)
    strongest = found[0]
    last = directions.vectors[-1, 0]
    before = mean_last(runner, TARGET)[-1] @ last
    gap = before - mean_last(runner, BASELINE)[-1] @ last
    write, read = circuits._sides(runner, strongest.columns, directions)
    mask = strongest.columns.mask([strongest.index])
    editor.apply([circuits.Edit(strongest.columns.writer, write, read, input_mask=mask)])
    after = mean_last(runner, TARGET)[-1] @ last
    assert float((before - after) / gap) == pytest.approx(strongest.effect, rel=0.02, abs=1e-5)


def test_masks_join_the_heads_of_one_projection() -> None:
    model = build_pico("llama")
    runner = make_runner("llama")
    first, second, _ = head_columns(model, runner.layout)
    masks = head_masks([Head(first, 3, 1.0), Head(second, 0, 0.9), Head(first, 1, 0.1)])
    assert set(masks) == {first.writer.path, second.writer.path}
    assert torch.equal(masks[first.writer.path], first.mask([1, 3]))
    note = heads_note([Head(first, 3, 1.0), Head(second, 0, 0.9)])
    assert "2 attention heads" in note
    assert "0.3, 1.0" in note


def test_a_model_without_such_heads_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner("llama")
    monkeypatch.setattr(circuits, "head_columns", lambda _model, _layout: ())
    with pytest.raises(UserError, match=r"no attention heads .* use --use-circuit-ablation false"):
        find_circuits(runner, TARGET, BASELINE, mean_directions(runner), editor_of(runner), 3)


def test_where_no_head_helps_it_is_said() -> None:
    runner = make_runner("llama", batch_size=4)
    directions = mean_directions(runner)
    for own in head_columns(runner.loaded.model, runner.layout):
        runner.loaded.model.get_submodule(own.writer.path).weight.data.zero_()
    with pytest.raises(UserError, match="No attention head lowers"):
        find_circuits(runner, TARGET, BASELINE, directions, editor_of(runner), 3)
