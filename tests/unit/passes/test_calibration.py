"""Batch size from scripted measurements, response prefix from scripted answers."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.models.pico import EOS, pico_tokenizer
from tests.unit.passes.pico_runner import make_runner

from heretic.common.errors import OutOfMemoryError
from heretic.models.chat_template import ChatFormatter
from heretic.observability.events import BatchSizeMeasured, Event, Warned, subscribed
from heretic.passes import calibration
from heretic.passes.calibration import backing_off, closed_thinking, find_batch_size, find_response_prefix
from heretic.passes.runner import ModelRunner, Response
from heretic.prompts.types import Prompt

MANY = tuple(Prompt(f"Prompt {index}") for index in range(200))
OUT_OF_MEMORY = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


class FakeRunner:
    """Knows its batch size and a device; the rest is scripted."""

    def __init__(self, batch_size: int = 0) -> None:
        self.batch_size = batch_size
        self.loaded = SimpleNamespace(device=torch.device("cpu"))

    def calibrated(self, batch_size: int) -> "FakeRunner":
        return FakeRunner(batch_size)

    def encode(self, prompt: Prompt) -> list[int]:
        return [0] * len(prompt.user)

    def teacher_forced(self, _prompts: object, _continuations: object) -> Iterator[object]:
        return iter(())


def measured(
    monkeypatch: pytest.MonkeyPatch,
    rates: dict[int, float | BaseException],
    maximum: int = 128,
    prompts: Sequence[Prompt] = MANY,
) -> tuple[int, list[int]]:
    """The batch size found with these rates, and the sizes that were measured."""
    warm: list[int] = []

    def rate(runner: FakeRunner, given: Sequence[Prompt]) -> float:
        assert len(given) == runner.batch_size
        if not warm and runner.batch_size == 1:
            warm.append(1)
            if not isinstance(rates[1], BaseException):
                return 1e9  # The first pass must not count.
        result = rates[runner.batch_size]
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(calibration, "_tokens_per_second", rate)
    seen: list[Event] = []
    with subscribed(seen.append):
        size = find_batch_size(FakeRunner(), prompts, maximum, 3)  # type: ignore[arg-type]  # all that is asked of it
    return size, [event.batch_size for event in seen if isinstance(event, BatchSizeMeasured)]


def test_the_fastest_size_wins_and_the_search_ends_when_doubling_stops_paying(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, {1: 10, 2: 19, 4: 35, 8: 30, 16: 31, 32: 900}) == (4, [1, 2, 4, 8, 16])


def test_one_slow_measurement_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: dict[int, float | BaseException] = {1: 10, 2: 9, 4: 30, 8: 31, 16: 60, 32: 55, 64: 40, 128: 900}
    assert measured(monkeypatch, rates) == (16, [1, 2, 4, 8, 16, 32, 64])


def test_a_gain_that_is_not_worth_the_memory_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, {1: 10, 2: 20, 4: 20.5, 8: 20.6, 16: 900}) == (2, [1, 2, 4, 8])


@pytest.mark.parametrize(("maximum", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_never_more_than_the_maximum(monkeypatch: pytest.MonkeyPatch, maximum: int, expected: list[int]) -> None:
    rates: dict[int, float | BaseException] = {size: 10.0 * size for size in (1, 2, 4, 6, 8, 16)}
    assert measured(monkeypatch, rates, maximum) == (maximum, expected)


def test_never_more_rows_than_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: dict[int, float | BaseException] = {size: 10.0 * size for size in (1, 2, 3, 4)}
    assert measured(monkeypatch, rates, prompts=MANY[:3]) == (3, [1, 2, 3])


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, torch.OutOfMemoryError("full"), MemoryError()])
def test_backs_off_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    assert measured(monkeypatch, {1: 10, 2: 19, 4: 35, 8: error}) == (4, [1, 2, 4, 8])


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, torch.OutOfMemoryError("full"), MemoryError()])
def test_not_even_one_row_fits(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    with pytest.raises(OutOfMemoryError, match=r"Not even one prompt fits .*--quantization bnb_4bit"):
        measured(monkeypatch, {1: error})


@pytest.mark.parametrize("failing", [1, 4])
def test_other_errors_pass_through(monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    rates: dict[int, float | BaseException] = {1: 10, 2: 20, failing: RuntimeError("shapes do not match")}
    with pytest.raises(RuntimeError, match="shapes do not match"):
        measured(monkeypatch, rates)


def test_measured_rate_counts_generated_tokens_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 100.5])
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: next(times))
    runner = make_runner("llama", batch_size=3)
    assert calibration._tokens_per_second(runner, MANY[:3]) == 3 * calibration.MEASURED_TOKENS / 0.5


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
    given: list[list[int]] = []

    def rate(_runner: ModelRunner, rows: Sequence[Prompt]) -> float:
        given.append([prompts.index(row) for row in rows])
        return 10.0 * len(rows)

    monkeypatch.setattr(calibration, "_tokens_per_second", rate)
    assert find_batch_size(runner, prompts, 4, 1) == 4
    assert given == [[3], [3], [3, 1], [3, 1, 5, 2]]


def test_a_size_has_to_hold_the_predictions_over_a_response_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generating keeps one position a row; comparing predictions keeps all of them, over the whole vocabulary."""
    monkeypatch.setattr(calibration, "_tokens_per_second", lambda _runner, rows: 10.0 * len(rows))
    runner = make_runner("llama")
    limited(runner, rows=100, positions=20)
    assert find_batch_size(runner, MANY, 16, compared_tokens=1) == 16
    assert find_batch_size(runner, MANY, 16, compared_tokens=7) == 2
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
        texts = self.answers[self.calibration.response_prefix]
        assert len(texts) == len(prompts)
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
    assert prefix == runner.loaded.tokenizer.decode([40]) * calibration.PREFIX_TOKENS
