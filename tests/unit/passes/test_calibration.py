"""Batch size from scripted measurements, response prefix from scripted answers."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.models.pico import EOS, pico_tokenizer
from tests.unit.passes.pico_runner import make_runner

from heretic.common.errors import OutOfMemoryError
from heretic.models.chat_template import ChatFormatter
from heretic.observability.events import BatchSizeMeasured, Event, Warned, subscribed
from heretic.passes import calibration
from heretic.passes.calibration import (
    backing_off,
    choose_threads,
    closed_thinking,
    find_batch_size,
    find_response_prefix,
)
from heretic.passes.runner import ModelRunner, Response
from heretic.prompts.types import Prompt

MANY = tuple(Prompt(f"Prompt {index}") for index in range(200))
OUT_OF_MEMORY = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def measured(
    monkeypatch: pytest.MonkeyPatch,
    seconds: dict[int, float | BaseException | list[float]],
    maximum: int = 128,
    prompts: Sequence[Prompt] = MANY,
    cpu_rows: int = 128,
) -> tuple[int, list[int]]:
    """The batch size where passes take so long a row (a list: one time after the other), and what was measured."""
    warm: list[int] = []

    def pass_seconds(_runner: ModelRunner, rows: Sequence[Sequence[int]], _compared_tokens: int) -> float:
        size = len(rows)
        if not warm:
            warm.append(size)
            return 1e9  # The first pass must not count.
        result = seconds.get(size, 1.0)
        if isinstance(result, BaseException):
            raise result
        return size * (result.pop(0) if isinstance(result, list) else result)

    monkeypatch.setattr(calibration, "_seconds", pass_seconds)
    monkeypatch.setattr(calibration, "CPU_ROWS", cpu_rows)
    seen: list[Event] = []
    with subscribed(seen.append):
        size = find_batch_size(make_runner("llama"), prompts, maximum, 3)
    return size, [event.batch_size for event in seen if isinstance(event, BatchSizeMeasured)]


def test_the_largest_size_is_taken_and_two_passes_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, {}) == (128, [128, 64])
    assert measured(monkeypatch, {64: 0.81}) == (128, [128, 64])


def test_a_cpu_is_judged_by_as_many_rows_as_fill_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, {}, cpu_rows=16) == (128, [16, 8])
    assert measured(monkeypatch, {16: 2.0}, cpu_rows=16) == (8, [16, 8, 16, 8, 4])


def test_a_clear_and_repeated_loss_halves_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, {128: 2.0}) == (64, [128, 64, 128, 64, 32])
    assert measured(monkeypatch, {size: float(size) for size in (16, 8, 4, 2)}, maximum=16)[0] == 1


def test_one_slow_measurement_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, {128: [50.0, 1.0]}) == (128, [128, 64, 128, 64])


@pytest.mark.parametrize(("maximum", "expected"), [(1, [1]), (2, [2, 1]), (6, [6, 3]), (8, [8, 4])])
def test_never_more_than_the_maximum(monkeypatch: pytest.MonkeyPatch, maximum: int, expected: list[int]) -> None:
    assert measured(monkeypatch, {}, maximum) == (maximum, expected)


def test_never_more_rows_than_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, {}, prompts=MANY[:3]) == (3, [3, 1])


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, torch.OutOfMemoryError("full"), MemoryError()])
def test_backs_off_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    assert measured(monkeypatch, {128: error, 64: error, 32: error}) == (16, [128, 64, 32, 16, 8])


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, torch.OutOfMemoryError("full"), MemoryError()])
def test_not_even_one_row_fits(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    with pytest.raises(OutOfMemoryError, match=r"Not even one prompt fits .*--quantization bnb_4bit"):
        measured(monkeypatch, {size: error for size in (1, 2, 4)}, maximum=4)


@pytest.mark.parametrize("failing", [4, 8])
def test_other_errors_pass_through(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"):
        measured(monkeypatch, {failing: RuntimeError("shapes do not match")}, maximum=8)


def test_a_cpu_keeps_room_for_predictions_since_nobody_says_that_its_memory_ran_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vocabulary = len(make_runner("llama").loaded.tokenizer)
    monkeypatch.setattr(calibration, "free_host_memory", lambda: 4 * 8 * 3 * vocabulary * 20)
    assert measured(monkeypatch, {})[0] == 16


def limited(runner: ModelRunner, rows: int, positions: int | None = None) -> list[tuple[int, int]]:
    """Let the model run out of memory above so many rows, or so many predicted positions; the shapes that it was asked.

    Fails as accelerators do, in the middle of a pass.
    """
    asked: list[tuple[int, int]] = []

    def look(_module: object, _arguments: object, keywords: dict[str, Any]) -> None:
        asked.append(tuple(keywords["input_ids"].shape))
        if len(keywords["input_ids"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def check_logits(_module: object, _arguments: object, logits: torch.Tensor) -> None:
        if positions is not None and logits.shape[:-1].numel() > positions:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    runner.loaded.model.register_forward_pre_hook(look, with_kwargs=True)
    runner.loaded.model.get_output_embeddings().register_forward_hook(check_logits)
    return asked


def test_every_size_is_measured_with_the_longest_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner("llama")
    prompts = [Prompt("ab " * length) for length in (1, 9, 3, 12, 2, 5)]
    encoded = [runner.encode(prompt) for prompt in prompts]
    given: list[list[int]] = []

    def seconds(_runner: ModelRunner, rows: Sequence[list[int]], _compared_tokens: int) -> float:
        given.append([encoded.index(row) for row in rows])
        return float(len(rows))

    monkeypatch.setattr(calibration, "_seconds", seconds)
    assert find_batch_size(runner, prompts, 4, 1) == 4
    assert given == [[3], [3, 1, 5, 2], [3, 1]]


def test_a_size_has_to_hold_the_predictions_over_a_response_too() -> None:
    """Generating keeps one position a row; comparing predictions keeps all of them, over the whole vocabulary."""
    runner = make_runner("llama")
    limited(runner, rows=100, positions=20)
    assert find_batch_size(runner, MANY, 16, compared_tokens=1) >= 1
    assert find_batch_size(runner, MANY, 16, compared_tokens=7) in (1, 2)
    with pytest.raises(OutOfMemoryError, match="--kl-tokens"):
        find_batch_size(runner, MANY, 16, compared_tokens=21)


def test_a_real_model_that_runs_out_of_memory_while_generating() -> None:
    runner = make_runner("llama")
    limited(runner, rows=2)
    assert find_batch_size(runner, MANY[:9], 128, 2) in (1, 2)


def test_backing_off_halves_until_it_fits_and_says_so() -> None:
    runner = make_runner("llama", batch_size=13)
    limited(runner, rows=3)
    seen: list[Event] = []
    with subscribed(seen.append):
        responses, smaller = backing_off(runner, lambda fitting: fitting.generate(MANY[:8], 2), "doing a thing")
    assert responses == make_runner("llama", batch_size=3).generate(MANY[:8], 2)
    assert smaller.calibration.batch_size == 3
    assert runner.calibration.batch_size == 13
    assert [event.message for event in seen if isinstance(event, Warned)] == [
        "Memory ran out while doing a thing with batches of 13; trying again with 6.",
        "Memory ran out while doing a thing with batches of 6; trying again with 3.",
    ]


def test_backing_off_is_silent_where_memory_lasts() -> None:
    runner = make_runner("llama", batch_size=4)
    seen: list[Event] = []
    with subscribed(seen.append):
        assert backing_off(runner, lambda fitting: fitting, "doing a thing") == (runner, runner)
    assert seen == []


def test_below_one_row_there_is_nothing_left_to_try() -> None:
    runner = make_runner("llama", batch_size=4)
    asked = limited(runner, rows=0)
    with pytest.raises(OutOfMemoryError, match=r"while doing a thing, even with one prompt at a time; use --quant"):
        backing_off(runner, lambda fitting: fitting.generate(MANY[:8], 2), "doing a thing")
    assert [rows for rows, _length in asked] == [4, 2, 1]


def test_backing_off_leaves_other_errors_alone() -> None:
    runner = make_runner("llama", batch_size=4)
    calls: list[int] = []

    def work(fitting: ModelRunner) -> None:
        calls.append(fitting.calibration.batch_size)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        backing_off(runner, work, "doing a thing")
    assert calls == [4]


TURNS = "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
THINKING_TEMPLATE = f"{TURNS}<|assistant|>OPEN\n"


class Scripted(ModelRunner):
    """Answers that depend only on the response prefix: prefix -> one answer per prompt, as text with special tokens."""

    answers: dict[str, list[str]]

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Response]:
        texts = [self.answers[self.calibration.response_prefix][MANY.index(prompt)] for prompt in prompts]
        tokens = [self.loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return [Response(text, tuple(ids[:max_new_tokens])) for text, ids in zip(texts, tokens, strict=True)]

    def calibrated(self, batch_size: int | None = None, response_prefix: str | None = None) -> "Scripted":
        other = super().calibrated(batch_size, response_prefix)
        result = Scripted(other.loaded, other.layout, other.formatter, other.calibration)
        result.answers = self.answers
        return result


def scripted(answers: dict[str, list[str]], template: str | None = None, given: str = "") -> Scripted:
    runner = make_runner("llama", response_prefix=given)
    formatter = runner.formatter if template is None else ChatFormatter(pico_tokenizer(template))
    result = Scripted(runner.loaded, runner.layout, formatter, runner.calibration)
    result.answers = answers
    return result


def prefix_of(*answers: str, after: dict[str, list[str]] | None = None, given: str = "") -> str:
    runner = scripted({"": list(answers), **(after or {})}, given=given)
    return find_response_prefix(runner, MANY[: len(answers)])


def test_what_all_answers_share_is_the_prefix() -> None:
    assert prefix_of("Answer: yes", "Answer: no", "Answer: perhaps") == "Answer:"
    assert prefix_of("Yes", "No") == ""
    assert prefix_of("**Yes**", "**No**") == "**"


def test_no_further_answers_are_written_where_a_few_share_nothing() -> None:
    runner = scripted({"": [f"{index} says" for index in range(64)]})
    written: list[tuple[int, int]] = []

    def generate(prompts: Sequence[Prompt], tokens: int) -> list[Response]:
        written.append((len(prompts), tokens))
        return Scripted.generate(runner, prompts, tokens)

    runner.calibrated = lambda **_: runner  # type: ignore[assignment,method-assign,misc]
    runner.generate = generate  # type: ignore[method-assign,assignment]
    assert find_response_prefix(runner, MANY[:64]) == ""
    assert written == [(8, 1)]


def test_one_answer_that_differs_is_enough() -> None:
    assert prefix_of("Sure, a", "Sure, b", "sure, c") == ""


def test_an_earlier_prefix_does_not_count() -> None:
    assert prefix_of("A 1", "A 2", given="something else") == "A"


def test_the_end_token_is_no_part_of_the_prefix() -> None:
    assert prefix_of("Hm.<eos>", "Hm.<eos>") == "Hm."
    assert prefix_of("<eos>", "<eos>") == ""
    assert EOS in make_runner("llama").end_tokens


@pytest.mark.parametrize(
    ("opening", "closed"),
    [
        ("<think>", "<think>\n\n</think>\n\n"),
        ("<thought>", "<thought></thought>"),
        ("[THINK]", "[THINK][/THINK]"),
        (
            "<|channel|>analysis<|message|>",
            "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>",
        ),
    ],
)
def test_thinking_is_closed_at_once(opening: str, closed: str) -> None:
    answers = [f"{opening}\nOkay, the user wants a", f"{opening}\nOkay, so"]
    assert prefix_of(*answers, after={closed: ["Yes", "No"]}) == closed
    assert prefix_of(*answers, after={closed: ["So: yes", "So: no"]}) == f"{closed}So:"
    assert prefix_of(*answers, after={closed: ["So<eos>", "So<eos>"]}) == f"{closed}So"


@pytest.mark.parametrize(("opening", "rest"), [("<think>", "\n\n</think>\n\n"), ("[THINK]", "[/THINK]")])
def test_thinking_that_the_template_opens_is_closed(opening: str, rest: str) -> None:
    runner = scripted({}, template=THINKING_TEMPLATE.replace("OPEN", opening))
    assert find_response_prefix(runner, MANY[:2]) == rest


def test_text_that_only_mentions_thinking_is_left_alone() -> None:
    assert closed_thinking("I <think> so") is None
    assert closed_thinking("") is None
    assert closed_thinking("\n<think>\nHm") == "<think>\n\n</think>\n\n"


def test_a_prefix_never_ends_inside_a_character() -> None:
    """Two answers may share the first bytes of characters that differ."""
    assert prefix_of("\u00e4hnlich", "\u00f6fter") == ""
    assert prefix_of("So: \u4f60", "So: \u4e0d") == "So:"


def test_real_answers_of_a_pico_model_really_start_with_the_prefix() -> None:
    runner = make_runner("llama")
    head = runner.loaded.model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(head.out_features), requires_grad=False)
    head.bias.data[40] = 1e4
    prefix = find_response_prefix(runner, MANY[:3])
    assert prefix == runner.loaded.tokenizer.decode([40]) * calibration.PREFIX_LOOKS[-1][1]


@pytest.mark.parametrize(
    ("alone", "together", "expected", "passes"),
    [(1.0, 0.6, 4, 2), (1.2, 1.0, 4, 6), (1.1, 1.0, 1, 6), (1.0, 5.0, 1, 6)],
)
def test_all_threads_where_they_gain(
    monkeypatch: pytest.MonkeyPatch, alone: float, together: float, expected: int, passes: int
) -> None:
    seen: list[int] = []

    def seconds(_runner: ModelRunner, _rows: object, _compared_tokens: int) -> float:
        seen.append(torch.get_num_threads())
        return alone if seen[-1] == 1 else together

    monkeypatch.setattr(calibration, "_seconds", seconds)
    torch.set_num_threads(4)
    try:
        assert choose_threads(make_runner("llama"), MANY) == expected
        assert (torch.get_num_threads(), len(seen)) == (expected, passes)
        assert choose_threads(make_runner("llama"), MANY, wanted=3) == 3
        assert (torch.get_num_threads(), len(seen)) == (3, passes)
    finally:
        torch.set_num_threads(1)
