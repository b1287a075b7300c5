"""Long answers and long prompts by ragged passes, against the ordinary ones."""

from collections.abc import Sequence

import pytest
import torch
from tests.models.pico import pico_names
from tests.unit.passes.pico_runner import PROMPTS, make_runner

from heretic.models.memory import USAGE
from heretic.passes import ragged_runner
from heretic.passes.calibration import backing_off
from heretic.passes.choose import choose
from heretic.passes.ragged import column_limit
from heretic.passes.ragged_runner import RaggedRunner, alike, shared_length
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

TOKENS = 9


def ending(runner: ModelRunner) -> ModelRunner:
    """The runner, some of whose answers end early, at a token that others do not say."""
    answers = [own.tokens for own in runner.generate(PROMPTS, TOKENS)]
    some = [token for token in answers[0] if 0 < sum(token in own for own in answers) < len(answers)]
    configuration = runner.loaded.model.generation_config
    configuration.eos_token_id = [*some[:1], *runner.end_tokens]
    return runner


def sizes_of(runner: ModelRunner) -> list[int]:
    """Rows of every pass from now on."""
    sizes: list[int] = []
    runner.loaded.model.register_forward_hook(
        lambda _model, _arguments, keywords, _output: sizes.append(len(keywords["input_ids"])), with_kwargs=True
    )
    return sizes


def chosen(runner: ModelRunner, rows: Sequence[Sequence[int]], further: int) -> ModelRunner:
    """How these rows are read with so many tokens behind them."""
    return choose(runner, rows, max(map(len, rows)) + further).passes


@pytest.mark.parametrize("family", pico_names())
def test_answers_are_those_of_ordinary_generation(family: str) -> None:
    runner = ending(make_runner(family, batch_size=3))
    passes = chosen(runner, [runner.encode(prompt) for prompt in PROMPTS], TOKENS)
    # One that reads its padding is asked one by one.
    runner = runner if passes.calibration.batch_size > 1 else passes
    assert passes.generate(PROMPTS, TOKENS) == runner.generate(PROMPTS, TOKENS)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text", "gpt_oss"])
def test_rows_may_be_as_long_as_the_window_is_wide(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Windows of pico models are narrower than any rendered prompt.
    monkeypatch.setattr(ModelRunner, "encode", lambda _self, prompt: [20 + ord(letter) % 50 for letter in prompt.user])
    runner = make_runner(family, batch_size=3)
    limit = column_limit(runner.loaded.model)
    assert limit is not None
    prompts = [Prompt("ab"), Prompt("abcd"), Prompt("cd")]
    most = limit - max(len(runner.encode(prompt)) for prompt in prompts)
    assert most > 1
    ragged = RaggedRunner.like(runner)
    assert ragged._forward_for([runner.encode(prompt) for prompt in prompts], most) is not None
    assert ragged._forward_for([runner.encode(prompt) for prompt in prompts], most + 1) is None
    assert ragged.generate(prompts, most) == runner.generate(prompts, most)


@pytest.mark.parametrize("most", [1, 2, TOKENS])
def test_answers_are_no_longer_than_asked_for_wherever_one_looks(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    runner = ending(make_runner("llama", batch_size=3))
    monkeypatch.setattr(ragged_runner, "look_interval", lambda _device: 4)
    found = RaggedRunner.like(runner).generate(PROMPTS, most)
    assert found == runner.generate(PROMPTS, most)
    assert max(len(own.tokens) for own in found) == most


def test_finished_answers_are_not_carried_on() -> None:
    runner = ending(make_runner("llama", batch_size=len(PROMPTS)))
    ragged = RaggedRunner.like(runner)
    lengths = sorted((len(own.tokens) for own in ragged.generate(PROMPTS, TOKENS)), reverse=True)
    assert lengths[-1] < lengths[0]
    sizes = sizes_of(runner)
    ragged.generate(PROMPTS, TOKENS)
    # Before the answers are those passes that see whether both ways agree.
    steps = sizes[-(lengths[0] - 1) :]
    assert steps == [sum(length > step for length in lengths) for step in range(1, lengths[0])]


def test_suppressed_tokens_are_never_said() -> None:
    runner = make_runner("llama", batch_size=3)
    said = sorted({own.tokens[0] for own in runner.generate(PROMPTS, 1)})
    runner.loaded.model.generation_config.suppress_tokens = said
    found = RaggedRunner.like(runner).generate(PROMPTS, TOKENS)
    assert found == runner.generate(PROMPTS, TOKENS)
    assert not set(said) & {token for own in found for token in own.tokens}


def test_weights_that_changed_meanwhile_answer() -> None:
    runner = make_runner("llama", batch_size=3)
    ragged = RaggedRunner.like(runner)
    before = ragged.generate(PROMPTS, TOKENS)
    with torch.no_grad():
        for parameter in runner.loaded.model.parameters():
            parameter.neg_()
    assert ragged._forward_for([runner.encode(prompt) for prompt in PROMPTS], TOKENS) is not None
    after = ragged.calibrated(batch_size=2).generate(PROMPTS, TOKENS)
    assert after == runner.generate(PROMPTS, TOKENS) != before


def rows_of(runner: ModelRunner) -> list[list[int]]:
    """Two kinds of long rows in turn, each with a long beginning of its own."""
    starts = [runner.encode(PROMPTS[1]), runner.encode(PROMPTS[3])]
    return [[*starts[number % 2], *range(20, 22 + number)] for number in range(8)]


@pytest.mark.parametrize("family", pico_names())
def test_every_row_is_read_once_and_as_alone(family: str) -> None:
    runner = make_runner(family, batch_size=2)
    encoded = rows_of(runner)
    found = dict(read(chosen(runner, encoded, 0), encoded))
    assert sorted(found) == list(range(len(encoded)))
    for row, own in enumerate(encoded):
        alone = runner.first_token_logits([own])[0]
        torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-4)


def read(runner: ModelRunner, encoded: Sequence[Sequence[int]]) -> list[tuple[int, torch.Tensor]]:
    return [
        (row, own) for rows, logits in runner.next_token_logits(encoded) for row, own in zip(rows, logits, strict=True)
    ]


def test_what_rows_share_is_read_once() -> None:
    runner = make_runner("llama", batch_size=100)
    ragged = RaggedRunner.like(runner)
    encoded = rows_of(runner)
    start = USAGE.tokens
    read(ragged, encoded)
    starts = sum(len(runner.encode(PROMPTS[place])) for place in (1, 3))
    # Rows 0, 2, 4, 6 go on by 2, 4, 6, 8 tokens and rows 1, 3, 5, 7 by 3, 5, 7, 9: 1 and 2 of these are shared as well,
    # since every row keeps at least one token to itself.
    assert USAGE.tokens - start == starts + 1 + (1 + 3 + 5 + 7) + 2 + (1 + 3 + 5 + 7)


@pytest.mark.parametrize("rule", [{"bad_words_ids": True}, {"begin_suppress_tokens": True}])
def test_a_model_with_rules_of_its_own_answers_by_them(rule: dict[str, bool]) -> None:
    runner = make_runner("llama", batch_size=3)
    said = runner.generate(PROMPTS, 1)[0].tokens[0]
    value = [[said]] if "bad_words_ids" in rule else [said]
    setattr(runner.loaded.model.generation_config, next(iter(rule)), value)
    found = chosen(runner, [runner.encode(prompt) for prompt in PROMPTS], TOKENS).generate(PROMPTS, TOKENS)
    assert found == runner.generate(PROMPTS, TOKENS)
    assert found[0].tokens[0] != said


def test_memory_that_runs_out_in_ragged_passes_halves_the_batch() -> None:
    runner = make_runner("llama", batch_size=4)
    expected = runner.generate(PROMPTS, TOKENS)
    ragged = RaggedRunner.like(runner)

    def narrow(_model: object, _arguments: object, keywords: dict[str, torch.Tensor]) -> None:
        if len(keywords["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    runner.loaded.model.register_forward_pre_hook(narrow, with_kwargs=True)
    found, fitting = backing_off(ragged, lambda own: own.generate(PROMPTS, TOKENS), "testing")
    assert (found, fitting.calibration.batch_size) == (expected, 2)


def test_backing_off_stays_with_ragged_passes() -> None:
    ragged = RaggedRunner.like(make_runner("llama", batch_size=4))
    tried: list[int] = []

    def work(fitting: ModelRunner) -> type:
        tried.append(fitting.calibration.batch_size)
        if fitting.calibration.batch_size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return type(fitting)

    assert backing_off(ragged, work, "testing")[0] is RaggedRunner
    assert tried == [4, 2, 1]


def test_nothing_is_asked() -> None:
    ragged = RaggedRunner.like(make_runner("llama"))
    assert ragged.generate((), TOKENS) == []
    assert read(ragged, []) == []


def test_rows_are_grouped_by_long_beginnings(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1, 2, 3, 4], [9, 9], [1, 2, 3, 5, 6], [1, 2, 8, 8, 8, 8], [1, 2, 3]]
    monkeypatch.setattr(ragged_runner, "FEWEST", 3)
    assert [sorted(group) for group in alike(rows)] == [[0, 2, 4], [1, 3]]
    monkeypatch.setattr(ragged_runner, "FEWEST", 4)
    assert [sorted(group) for group in alike(rows)] == [[0, 1, 2, 3, 4]]


def test_rows_that_share_little_are_read_together() -> None:
    runner = make_runner("llama", batch_size=3)
    encoded = [[20 + number, *range(30, 40 + number)] for number in range(6)]
    sizes = sizes_of(runner)
    read(RaggedRunner.like(runner), encoded)
    assert sizes[-2:] == [3, 3]


def test_shared_length() -> None:
    assert [shared_length(*pair) for pair in (([1, 2], [1, 3]), ([1], [1, 2]), ([2], [1]), ([1, 2], [1, 2]))] == [
        1,
        1,
        0,
        2,
    ]
