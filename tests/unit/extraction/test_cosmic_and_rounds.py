"""COSMIC finds the layer that was planted; further rounds find what the first hid, and stop when they should."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.models.pico import PICO_FAMILIES
from tests.unit.passes.pico_runner import PROMPTS, make_runner
from torch import Tensor

from heretic.common.errors import OutOfMemoryError
from heretic.config.sections import RoundOptions
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.editors.output_space import OutputSpaceEditor
from heretic.edits.build import _interpolated
from heretic.extraction.cosmic import cosmic_scores, full_removal, mean_residuals, steered
from heretic.extraction.extract import collect_statistics
from heretic.extraction.rounds import Extraction, first_token_logits, further_rounds, joined
from heretic.observability.events import RoundFinished, subscribed
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet


def unit(*shape: int, seed: int) -> Tensor:
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=-1, keepdim=True)


def directions(positions: int, size: int, seed: int = 0) -> DirectionSet:
    return DirectionSet(
        unit(positions, 1, size, seed=seed), torch.ones(positions, 1), torch.ones(positions), "mean", {"a": 1}
    )


def statistics(mean: Tensor) -> ResidualStatistics:
    return ResidualStatistics(mean, 5, None, "")


@pytest.fixture(scope="module")
def runner() -> ModelRunner:
    return make_runner("llama")


def test_a_vector_is_added_to_one_layers_output_and_taken_back(runner: ModelRunner) -> None:
    before = mean_residuals(runner, PROMPTS)
    vector = unit(before.shape[-1], seed=3) * 5
    with steered(runner, 1, vector):
        during = mean_residuals(runner, PROMPTS)
    torch.testing.assert_close(during[:2], before[:2])
    torch.testing.assert_close(during[2], before[2] + vector, rtol=1e-4, atol=1e-4)
    assert torch.equal(mean_residuals(runner, PROMPTS), before)


@pytest.mark.parametrize("family", PICO_FAMILIES)
def test_full_removal_leaves_nothing_of_the_direction_to_the_writers(family: str) -> None:
    """On every family: no layer adds anything along the removed direction, so it stays as the embeddings had it."""
    runner = make_runner(family)
    if runner.layout.uneditable:
        pytest.skip("some writers of this family cannot be edited")
    before = mean_residuals(runner, PROMPTS)
    found = directions(len(before), before.shape[-1])
    editor = OutputSpaceEditor(runner.loaded.model, runner.layout)
    editor.apply(full_removal(runner, found, editor, 0.5))
    after = mean_residuals(runner, PROMPTS)
    editor.restore()
    vector = _interpolated(found, 0.5).vectors[0].float()
    coordinates = after @ vector
    scale = float(after.norm(dim=-1).max())
    if any(writer.bias for writer in runner.layout.writers):
        # Biases are left alone, so what moves is what they write.
        assert not torch.allclose(before, after)
    else:
        assert float((coordinates - coordinates[0]).abs().max()) < 2e-3 * scale


def test_cosmic_prefers_the_layer_whose_direction_separates(runner: ModelRunner) -> None:
    mean = mean_residuals(runner, PROMPTS)
    size = mean.shape[-1]
    editor = OutputSpaceEditor(runner.loaded.model, runner.layout)
    found = directions(len(mean), size, seed=4)
    # The target's means are those that adding layer 1's direction to the baseline makes.
    vector = found.vectors[2, 0] * 20
    with steered(runner, 1, vector):
        target = mean_residuals(runner, PROMPTS)
    scores = cosmic_scores(
        runner,
        found,
        (statistics(target), PROMPTS),
        (statistics(mean), PROMPTS),
        editor,
        list(range(runner.layout.layer_count)),
    )
    assert len(scores) == runner.layout.layer_count
    assert max(range(len(scores)), key=scores.__getitem__) == 1
    assert torch.equal(mean_residuals(runner, PROMPTS), mean)


def test_joined_sets_are_orthonormal_and_span_both() -> None:
    first, second = directions(4, 9, seed=1), directions(4, 9, seed=2)
    both = joined(first, second)
    gram = both.vectors @ both.vectors.mT
    torch.testing.assert_close(gram, torch.eye(2).expand(4, 2, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(both.vectors[:, 0], first.vectors[:, 0], rtol=0, atol=1e-6)
    rest = second.vectors - (second.vectors @ both.vectors.mT) @ both.vectors
    assert float(rest.abs().max()) < 1e-5
    assert both.weights.shape == (4, 2)
    assert both.reads is None
    with_reads = joined(first, replace(second, reads=unit(4, 1, 9, seed=5)))
    assert with_reads.reads is not None
    torch.testing.assert_close((with_reads.reads * with_reads.vectors).sum(-1), torch.ones(4, 2))


def extraction(runner: ModelRunner, length: float, seed: int) -> Extraction:
    positions, size = runner.layout.layer_count + 1, runner.layout.hidden_size
    found = directions(positions, size, seed)
    return Extraction(found, statistics(found.vectors[:, 0] * length), statistics(torch.zeros(positions, size)))


def options_of(rounds: int, magnitude: float, divergence: float) -> RoundOptions:
    return RoundOptions(iterative_rounds=rounds, min_direction_magnitude=magnitude, max_kl_per_round=divergence)


def rounds(
    runner: ModelRunner, again: Callable[[], Extraction], options: RoundOptions
) -> tuple[DirectionSet, list[RoundFinished]]:
    seen: list[RoundFinished] = []
    editor = OutputSpaceEditor(runner.loaded.model, runner.layout)
    before = first_token_logits(runner, PROMPTS)
    with subscribed(lambda event: seen.append(event) if isinstance(event, RoundFinished) else None):
        found = further_rounds(runner, extraction(runner, 4.0, 0), again, editor, PROMPTS, options)
    assert torch.equal(first_token_logits(runner, PROMPTS), before)
    return found, seen


def test_rounds_go_on_while_something_is_left(runner: ModelRunner) -> None:
    lengths = iter([2.0, 1.0, 0.1])
    seeds = iter([1, 2, 3])
    found, seen = rounds(runner, lambda: extraction(runner, next(lengths), next(seeds)), options_of(9, 0.2, 1000))
    assert found.count_per_layer == 3
    assert found.provenance["rounds"] == 3
    assert [round(event.magnitude, 3) for event in seen] == [0.5, 0.25, 0.025]
    assert [bool(event.reason) for event in seen] == [False, False, True]


def test_a_round_that_changes_too_much_is_not_kept(runner: ModelRunner) -> None:
    found, seen = rounds(runner, lambda: extraction(runner, 3.0, 1), options_of(3, 0.1, 0.0))
    assert found.count_per_layer == 1
    assert len(seen) == 1
    assert seen[0].divergence is not None
    assert seen[0].divergence > 0
    assert "max-kl-per-round" in seen[0].reason


def test_rounds_extract_from_the_edited_model(runner: ModelRunner) -> None:
    """What the first round took out is gone from what the second sees."""
    seen: list[Tensor] = []

    def again() -> Extraction:
        seen.append(mean_residuals(runner, PROMPTS))
        return extraction(runner, 0.0, 1)

    before = mean_residuals(runner, PROMPTS)
    rounds(runner, again, options_of(2, 0.5, 1.0))
    assert not torch.allclose(seen[0][1:], before[1:])


def crowd(runner: ModelRunner, limit: int) -> Callable[[], None]:
    """Let passes of more than so many rows run out of memory; returns what makes room again."""

    def check(_module: object, _arguments: object, keywords: dict[str, Tensor]) -> None:
        if len(keywords["input_ids"]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return runner.loaded.model.register_forward_pre_hook(check, with_kwargs=True).remove


@pytest.mark.parametrize("read", [mean_residuals, first_token_logits])
def test_reading_an_edited_model_gets_by_with_little_memory(
    read: Callable[[ModelRunner, list[Prompt]], Tensor],
) -> None:
    runner = make_runner("llama", batch_size=4)
    expected = read(runner, PROMPTS)
    make_room = crowd(runner, 1)
    torch.testing.assert_close(read(runner, PROMPTS), expected, rtol=1e-4, atol=1e-4)
    make_room()


def test_cosmic_and_rounds_leave_no_edit_behind_where_nothing_fits() -> None:
    runner = make_runner("llama", batch_size=4)
    before = mean_residuals(runner, PROMPTS)
    found = directions(len(before), before.shape[-1])
    both = (statistics(before), PROMPTS), (statistics(-before), PROMPTS)
    first = Extraction(found, both[0][0], both[1][0])
    editor = OutputSpaceEditor(runner.loaded.model, runner.layout)
    make_room = crowd(runner, 0)
    with pytest.raises(OutOfMemoryError, match="with one prompt at a time"):
        cosmic_scores(runner, found, *both, editor, [0, 1])
    with pytest.raises(OutOfMemoryError, match="with one prompt at a time"):
        further_rounds(runner, first, lambda: first, editor, PROMPTS, options_of(3, 0.0, 1000))
    make_room()
    assert torch.equal(mean_residuals(runner, PROMPTS), before)


def test_statistics_are_the_same_with_little_memory() -> None:
    runner = make_runner("llama", batch_size=4)
    prompts = PromptSet("good_prompts", tuple(PROMPTS))
    passes = OrdinaryPasses(runner)
    expected = collect_statistics(passes, prompts, with_second_moment=True)
    make_room = crowd(runner, 1)
    found = collect_statistics(passes, prompts, with_second_moment=True)
    make_room()
    assert passes.runner.calibration.batch_size == 1
    assert found.count == expected.count == len(PROMPTS)
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-4, atol=1e-4)
