"""Ragged passes equal ordinary ones on every pico family that they claim to serve."""

from collections.abc import Sequence

import pytest
import torch
from tests.models.pico import pico_names
from tests.unit.passes.pico_runner import greedy_alone, log_probabilities_alone, make_runner
from torch import Tensor

from heretic.models.access import put_back
from heretic.models.private_api import column_limit
from heretic.passes.kept_layers import KeptLayers
from heretic.passes.packed import PackedLinears
from heretic.passes.ragged import KeyValues, RaggedForward, ragged_obstacle, split_shared_prefix
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

PROMPTS = tuple(Prompt(text, system="B") for text in ("Hi", "Describe the sea.", "", "2 + 2?", "abc"))
"""Of different lengths, all behind the same system message."""

CONTINUATIONS = ((5, 9, 11), (7,), (8, 6, 5, 9, 12), (13, 4), (9, 9, 9, 9))


def served(family: str) -> ModelRunner:
    runner = make_runner(family)
    obstacle = ragged_obstacle(runner.loaded)
    if obstacle is not None:
        pytest.skip(obstacle)
    return runner


def teacher_forced(
    runner: ModelRunner,
    rests: Sequence[Sequence[int]],
    prefix: KeyValues,
    kept: tuple[KeptLayers, int] | None = None,
) -> list[Tensor]:
    forward = RaggedForward(runner.loaded, runner.layout, PackedLinears(runner.loaded.model))
    state = forward.start(prefix, [0] * len(rests))
    tokens = [[*rest, *own[:-1]] for rest, own in zip(rests, CONTINUATIONS, strict=True)]
    wanted = [range(len(rest) - 1, len(row)) for rest, row in zip(rests, tokens, strict=True)]
    stored = None if kept is None else (kept[0], range(len(rests)), kept[1])
    logits = state.feed(tokens, wanted, stored)
    return [part.log_softmax(-1) for part in logits.split([len(own) for own in wanted])]


@pytest.mark.parametrize("family", pico_names())
def test_teacher_forced_logits_behind_a_shared_prefix_equal_plain_passes(family: str) -> None:
    runner = served(family)
    split = split_shared_prefix([runner.encode(prompt) for prompt in PROMPTS], runner.encode(PROMPTS[0]))
    assert split.tokens, "nothing is shared, so nothing would be tested"
    prefix = RaggedForward(runner.loaded, runner.layout).prefix(split.tokens, 1)
    found = teacher_forced(runner, split.rests, prefix)
    for own, prompt, continuation in zip(found, PROMPTS, CONTINUATIONS, strict=True):
        torch.testing.assert_close(own, log_probabilities_alone(runner, prompt, continuation), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", pico_names())
def test_decoding_while_rows_leave_is_greedy(family: str) -> None:
    runner = served(family)
    if column_limit(runner.loaded.model) is not None:
        pytest.skip("its window is narrower than what this test feeds")
    encoded = [runner.encode(prompt) for prompt in PROMPTS]
    split = split_shared_prefix(encoded, encoded[0])
    forward = RaggedForward(runner.loaded, runner.layout, PackedLinears(runner.loaded.model))
    # Two candidates' prefixes; the rows of this test use the second.
    state = forward.start(forward.prefix(split.tokens, 2), [1] * len(PROMPTS))
    logits = state.feed(split.rests, [[len(rest) - 1] for rest in split.rests])
    tokens = [[int(own.argmax())] for own in logits]
    rows = list(range(len(PROMPTS)))
    for step in range(4):
        logits = state.feed([tokens[row][-1:] for row in rows], [[0] for _ in rows])
        for row, own in zip(rows, logits, strict=True):
            tokens[row].append(int(own.argmax()))
        if step == 1:
            state.select([4, 0, 2])
            rows = [4, 0, 2]
    for row, prompt in enumerate(PROMPTS):
        assert tokens[row] == greedy_alone(runner, prompt, len(tokens[row]))


@pytest.mark.parametrize("family", pico_names())
def test_a_pass_may_begin_at_any_layer_whose_input_was_kept(family: str) -> None:
    runner = served(family)
    encoded = [runner.encode(prompt) for prompt in PROMPTS]
    split = split_shared_prefix(encoded, encoded[0])
    forward = RaggedForward(runner.loaded, runner.layout, PackedLinears(runner.loaded.model))
    store = KeptLayers()
    lengths = [len(rest) + len(own) - 1 for rest, own in zip(split.rests, CONTINUATIONS, strict=True)]
    prefix = forward.prefix(split.tokens, 1)
    with store.recording(forward.layers, range(len(PROMPTS)), lengths):
        expected = teacher_forced(runner, split.rests, prefix)
    for first in range(1, len(forward.layers)):
        # What ran below would show: its weights are nonsense now.
        broken = forward.layers[first - 1]
        put_back(broken.parameters())
        saved = {name: parameter.data.clone() for name, parameter in broken.named_parameters()}
        for parameter in broken.parameters():
            parameter.data.fill_(float("nan"))
        found = teacher_forced(runner, split.rests, prefix, (store, first))
        put_back(broken.parameters())
        for name, parameter in broken.named_parameters():
            parameter.data.copy_(saved[name])
        for own, reference in zip(found, expected, strict=True):
            torch.testing.assert_close(own, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", pico_names())
def test_decoding_goes_on_behind_kept_keys_and_values(family: str) -> None:
    runner = served(family)
    encoded = [runner.encode(prompt) for prompt in PROMPTS]
    split = split_shared_prefix(encoded, encoded[0])
    forward = RaggedForward(runner.loaded, runner.layout, PackedLinears(runner.loaded.model))
    rows = range(len(PROMPTS))
    prefix = forward.prefix(split.tokens, 1)
    store = KeptLayers(with_key_values=True)
    lengths = [len(rest) for rest in split.rests]
    state = forward.start(prefix, [0] * len(PROMPTS))
    with store.recording(forward.layers, rows, lengths):
        state.feed(split.rests, [() for _ in rows])
    store.keep_key_values(state.cache, rows, lengths, max(lengths))
    # As short as the narrowest sliding window asks for.
    chosen = [0, 2, 4]
    state = forward.start(prefix, [0] * len(chosen))
    rests = [split.rests[row] for row in chosen]
    logits = state.feed(rests, [[len(rest) - 1] for rest in rests], (store, chosen, len(forward.layers) - 1))
    tokens = [[int(own.argmax())] for own in logits]
    for _ in range(3):
        logits = state.feed([own[-1:] for own in tokens], [[0] for _ in chosen])
        for own, last in zip(tokens, logits, strict=True):
            own.append(int(last.argmax()))
    assert tokens == [greedy_alone(runner, PROMPTS[row], 4) for row in chosen]


@pytest.mark.parametrize(
    ("rule", "value", "kept"),
    [
        ("bad_words_ids", [[5]], True),
        ("forced_eos_token_id", 0, True),
        ("guidance_scale", 1.5, True),
        ("guidance_scale", 1.0, False),
    ],
)
def test_a_model_whose_answers_follow_further_rules_answers_in_the_ordinary_way(
    rule: str, value: object, kept: bool
) -> None:
    loaded = make_runner("llama").loaded
    assert ragged_obstacle(loaded) is None
    setattr(loaded.model.generation_config, rule, value)
    assert ragged_obstacle(loaded) == (f"its generation configuration sets {rule}" if kept else None)
