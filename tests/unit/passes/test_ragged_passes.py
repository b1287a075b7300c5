"""Answers, predictions and next tokens by either kind of passes: the same, in whatever batches, and nothing in vain."""

from collections.abc import Callable, Sequence

import pytest
import torch
from tests.models.pico import pico_names
from tests.unit.passes.pico_runner import PROMPTS, log_probabilities_alone, make_runner

from heretic.common.errors import OutOfMemoryError
from heretic.models.memory import USAGE
from heretic.models.private_api import column_limit
from heretic.observability.events import Event, SlowerPasses, subscribed
from heretic.passes import ragged_passes
from heretic.passes.choose import choose
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.passes import Passes
from heretic.passes.ragged_passes import RaggedPasses, alike, shared_length
from heretic.passes.runner import ModelRunner, Response

TOKENS = 9
BOTH = pytest.mark.parametrize("kind", [OrdinaryPasses, RaggedPasses])
Make = Callable[[ModelRunner], Passes]


def rows_of(runner: ModelRunner) -> list[list[int]]:
    return [runner.encode(prompt) for prompt in PROMPTS]


def answers(passes: Passes, most: int = TOKENS) -> list[Response]:
    return passes.answers(rows_of(passes.runner), most, "testing")


def ending(runner: ModelRunner) -> ModelRunner:
    """The runner, some of whose answers end early, at a token that others do not say."""
    found = [own.tokens for own in runner.generate(PROMPTS, TOKENS)]
    some = [token for token in found[0] if 0 < sum(token in own for own in found) < len(found)]
    configuration = runner.loaded.model.generation_config
    configuration.eos_token_id = [*some[:1], *runner.end_tokens]
    return runner


def sizes_of(runner: ModelRunner, limit: int = 1000) -> list[int]:
    """Rows of every pass from now on; above the limit memory runs out."""
    sizes: list[int] = []

    def watch(_model: object, _arguments: object, keywords: dict[str, torch.Tensor]) -> None:
        sizes.append(len(keywords["input_ids"]))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    runner.loaded.model.register_forward_pre_hook(watch, with_kwargs=True)
    return sizes


def chosen(runner: ModelRunner, rows: Sequence[Sequence[int]], further: int) -> Passes:
    """How these rows are read with so many tokens behind them."""
    return choose(runner, rows, max(map(len, rows)) + further).passes


@pytest.mark.parametrize("family", pico_names())
def test_answers_are_those_of_ordinary_generation(family: str) -> None:
    runner = ending(make_runner(family, batch_size=3))
    passes = chosen(runner, rows_of(runner), TOKENS)
    # One that reads its padding is asked one by one.
    expected = runner.calibrated(batch_size=min(3, passes.runner.calibration.batch_size)).generate(PROMPTS, TOKENS)
    assert answers(passes) == expected


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text", "gpt_oss"])
def test_rows_may_be_as_long_as_the_window_is_wide_and_longer_ones_are_said(family: str) -> None:
    runner = make_runner(family, batch_size=3)
    limit = column_limit(runner.loaded.model)
    assert limit is not None
    # Windows of pico models are narrower than any rendered prompt.
    rows = [[30, 31], [30, 31, 32, 33], [32, 33]]
    passes = chosen(runner, rows, limit - 4)
    assert isinstance(passes, RaggedPasses)
    seen: list[Event] = []
    with subscribed(seen.append):
        assert passes.answers(rows, limit - 4, "testing") == runner.answers(rows, limit - 4)
        assert seen == []
        for _ in range(2):
            assert passes.answers(rows, limit - 3, "testing") == runner.answers(rows, limit - 3)
    (said,) = seen
    assert isinstance(said, SlowerPasses)
    assert "attention window" in said.reason


@pytest.mark.parametrize("most", [1, 2, TOKENS])
def test_answers_are_no_longer_than_asked_for_wherever_one_looks(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    runner = ending(make_runner("llama", batch_size=3))
    monkeypatch.setattr(ragged_passes, "look_interval", lambda _device: 4)
    found = answers(RaggedPasses(runner), most)
    assert found == runner.generate(PROMPTS, most)
    assert max(len(own.tokens) for own in found) == most


def test_finished_answers_are_not_carried_on() -> None:
    runner = ending(make_runner("llama", batch_size=len(PROMPTS)))
    passes = RaggedPasses(runner)
    lengths = sorted((len(own.tokens) for own in answers(passes)), reverse=True)
    assert lengths[-1] < lengths[0]
    sizes = sizes_of(runner)
    answers(passes)
    assert sizes[1:] == [sum(length > step for length in lengths) for step in range(1, lengths[0])]


def test_suppressed_tokens_are_never_said() -> None:
    runner = make_runner("llama", batch_size=3)
    said = sorted({own.tokens[0] for own in runner.generate(PROMPTS, 1)})
    runner.loaded.model.generation_config.suppress_tokens = said
    found = answers(RaggedPasses(runner))
    assert found == runner.generate(PROMPTS, TOKENS)
    assert not set(said) & {token for own in found for token in own.tokens}


def test_weights_that_changed_meanwhile_answer() -> None:
    runner = make_runner("llama", batch_size=3)
    passes = RaggedPasses(runner)
    before = answers(passes)
    with torch.no_grad():
        for parameter in runner.loaded.model.parameters():
            parameter.neg_()
    assert answers(passes) == runner.generate(PROMPTS, TOKENS) != before


def long_rows(runner: ModelRunner) -> list[list[int]]:
    """Two kinds of long rows in turn, each with a long beginning of its own."""
    starts = [runner.encode(PROMPTS[1]), runner.encode(PROMPTS[3])]
    return [[*starts[number % 2], *range(20, 22 + number)] for number in range(8)]


@pytest.mark.parametrize("family", pico_names())
def test_every_row_is_read_once_and_as_alone(family: str) -> None:
    runner = make_runner(family, batch_size=2)
    rows = long_rows(runner)
    found = chosen(runner, rows, 0).next_tokens(rows, list, "testing")
    for row, own in zip(rows, found, strict=True):
        torch.testing.assert_close(own, runner.first_token_logits([row])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", pico_names())
def test_residuals_are_those_of_each_row_alone(family: str) -> None:
    runner = make_runner(family, batch_size=3)
    rows = long_rows(runner)
    found = chosen(runner, rows, 0).residuals(rows, lambda batches: torch.cat(list(batches)), "testing")
    alone = torch.cat([residuals for row in rows for residuals in runner.residuals_of([row])])
    assert found.shape == alone.shape
    # They come in any order: each has one that is its own, and no other one is that near.
    nearest = torch.cdist(found.flatten(1), alone.flatten(1)).argmin(1)
    assert sorted(nearest.tolist()) == list(range(len(rows)))
    torch.testing.assert_close(found, alone[nearest], rtol=1e-4, atol=1e-4)


@BOTH
def test_predictions_are_those_of_plain_passes_in_the_order_of_the_rows(kind: Make) -> None:
    runner = make_runner("qwen2", batch_size=2)
    continuations = [(5, 9, 31), (7,), (40, 41), (3, 3, 3, 3), (8, 1)]
    found = kind(runner).predictions(
        rows_of(runner), continuations, lambda row, logits: (row, logits.float().log_softmax(-1)), "testing", at_once=1
    )
    assert [row for row, _logits in found] == list(range(len(PROMPTS)))
    for (row, logits), continuation in zip(found, continuations, strict=True):
        expected = log_probabilities_alone(runner, PROMPTS[row], continuation)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_what_rows_share_is_read_once() -> None:
    runner = make_runner("llama", batch_size=100)
    rows = long_rows(runner)
    start = USAGE.tokens
    RaggedPasses(runner).next_tokens(rows, list, "testing")
    starts = sum(len(runner.encode(PROMPTS[place])) for place in (1, 3))
    # Rows 0, 2, 4, 6 go on by 2, 4, 6, 8 tokens and rows 1, 3, 5, 7 by 3, 5, 7, 9: 1 and 2 of these are shared as well,
    # since every row keeps at least one token to itself.
    assert USAGE.tokens - start == starts + 1 + (1 + 3 + 5 + 7) + 2 + (1 + 3 + 5 + 7)


def test_residuals_and_answers_read_a_shared_beginning_once() -> None:
    runner = make_runner("llama", batch_size=100)
    start = runner.encode(PROMPTS[1])
    rows = [[*start, *range(20, 22 + number)] for number in range(4)]
    passes, before = RaggedPasses(runner), USAGE.tokens
    # All go on by 20, which is shared as well, and by 1 to 4 tokens more.
    rests = 1 + 2 + 3 + 4
    passes.residuals(rows, lambda batches: len(torch.cat(list(batches))), "testing")
    assert USAGE.tokens - before == len(start) + 1 + rests
    passes.answers(rows, 1, "testing")
    assert USAGE.tokens - before == 2 * (len(start) + 1 + rests)


def test_what_saves_less_than_a_pass_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner("llama", batch_size=100)
    rows = [[5, 6, 7, 20 + number] for number in range(8)]
    sizes = sizes_of(runner)
    RaggedPasses(runner).answers(rows, 1, "testing")
    monkeypatch.setattr(ragged_passes, "WORTH_A_PASS", 3 * 7)
    RaggedPasses(runner).answers(rows, 1, "testing")
    assert sizes == [8, 1, 8]


@pytest.mark.parametrize("rule", [{"bad_words_ids": True}, {"begin_suppress_tokens": True}])
def test_a_model_with_rules_of_its_own_answers_by_them(rule: dict[str, bool]) -> None:
    runner = make_runner("llama", batch_size=3)
    said = runner.generate(PROMPTS, 1)[0].tokens[0]
    value = [[said]] if "bad_words_ids" in rule else [said]
    setattr(runner.loaded.model.generation_config, next(iter(rule)), value)
    found = answers(chosen(runner, rows_of(runner), TOKENS))
    assert found == runner.generate(PROMPTS, TOKENS)
    assert found[0].tokens[0] != said


@BOTH
def test_where_memory_runs_out_batches_halve_and_stay_small(kind: Make) -> None:
    """Of answers, predictions and next tokens alike; what was looked at in a batch that failed counts once."""
    runner = make_runner("llama", batch_size=4)
    rows, continuations = rows_of(runner), [(5, 9)] * len(PROMPTS)
    expected = runner.generate(PROMPTS, TOKENS)
    sizes = sizes_of(runner, limit=2)
    passes = kind(runner)
    assert answers(passes) == expected
    assert passes.runner.calibration.batch_size == 2
    sizes.clear()
    looked = passes.predictions(rows, continuations, lambda row, _logits: row, "testing")
    assert looked == list(range(len(rows)))
    assert len(passes.next_tokens(rows, list, "testing")) == len(rows)
    assert passes.residuals(rows, lambda batches: sum(map(len, batches)), "testing") == len(rows)
    assert max(sizes) == 2
    fresh = kind(runner)
    assert len(fresh.next_tokens(rows, list, "testing")) == len(rows)
    assert fresh.runner.calibration.batch_size == 2


@BOTH
def test_where_no_row_fits_that_is_one_sentence(kind: Make) -> None:
    runner = make_runner("llama", batch_size=4)
    sizes_of(runner, limit=0)
    with pytest.raises(OutOfMemoryError, match="Memory ran out while testing, even with one prompt at a time"):
        answers(kind(runner))


@BOTH
def test_nothing_is_asked(kind: Make) -> None:
    passes = kind(make_runner("llama"))
    assert passes.answers((), TOKENS, "testing") == []
    assert passes.next_tokens((), list, "testing") == []
    assert passes.predictions((), (), lambda row, _logits: row, "testing") == []


def test_rows_are_grouped_by_long_beginnings(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1, 2, 3, 4], [9, 9], [1, 2, 3, 5, 6], [1, 2, 8, 8, 8, 8], [1, 2, 3]]
    monkeypatch.setattr(ragged_passes, "FEWEST", 3)
    assert [sorted(group) for group in alike(rows)] == [[0, 2, 4], [1, 3]]
    monkeypatch.setattr(ragged_passes, "FEWEST", 4)
    assert [sorted(group) for group in alike(rows)] == [[0, 1, 2, 3, 4]]


def test_rows_that_share_little_are_read_together() -> None:
    runner = make_runner("llama", batch_size=3)
    rows = [[20 + number, *range(30, 40 + number)] for number in range(6)]
    sizes = sizes_of(runner)
    RaggedPasses(runner).next_tokens(rows, list, "testing")
    assert sizes == [3, 3]


def test_shared_length() -> None:
    pairs = (([1, 2], [1, 3]), ([1], [1, 2]), ([2], [1]), ([1, 2], [1, 2]))
    assert [shared_length(*pair) for pair in pairs] == [1, 1, 0, 2]
