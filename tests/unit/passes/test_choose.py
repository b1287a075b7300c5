"""How a model is read is chosen in one place: ragged passes where they agree, else why not and what that costs."""

from typing import Any

import pytest
import torch
from tests.models.pico import pico_names
from tests.unit.passes.pico_runner import PROMPTS, make_runner

from heretic.config import Settings
from heretic.models.private_api import column_limit
from heretic.observability.events import Event, SlowerPasses, subscribed
from heretic.passes import choose as choosing
from heretic.passes.choose import EAGER, REACH, Choice, choose, ordinary_wanted, predicts_alike, slower_model
from heretic.passes.passes import ALONE, ORDINARY, Rows
from heretic.passes.ragged import RaggedForward, ragged_obstacle
from heretic.passes.ragged_passes import RaggedPasses
from heretic.passes.runner import ModelRunner

pytestmark = pytest.mark.versions


def reading_padding(runner: ModelRunner) -> ModelRunner:
    """The runner, whose model's logits depend on how much padding a row has, and which ragged passes do not serve."""

    def read_padding(_model: Any, _arguments: Any, keywords: dict[str, Any], output: Any) -> None:
        if "attention_mask" in keywords:
            output.logits += (keywords["attention_mask"] == 0).sum(-1)[:, None, None] * torch.arange(264) * 0.01

    runner.loaded.model.register_forward_hook(read_padding, with_kwargs=True)
    return runner


def rows(runner: ModelRunner) -> list[list[int]]:
    return [runner.encode(prompt) for prompt in PROMPTS]


def saying(runner: ModelRunner, **options: Any) -> tuple[Choice, list[Event]]:
    seen: list[Event] = []
    with subscribed(seen.append):
        choice = choose(runner, rows(runner), doing="reading", **options)
    return choice, seen


@pytest.mark.parametrize("family", pico_names())
def test_ragged_passes_are_chosen_wherever_the_model_allows_them(family: str) -> None:
    """On every family those agree, so what a model says of itself decides; and what is slower has its reason."""
    runner = make_runner(family, batch_size=3)
    choice, seen = saying(runner)
    limit, longest = column_limit(runner.loaded.model), max(map(len, rows(runner)))
    ragged = ragged_obstacle(runner.loaded) is None and (limit is None or longest <= limit)
    assert isinstance(choice.passes, RaggedPasses) is ragged
    assert (choice.forward is not None) is ragged
    assert choice.alone is (family == "recurrent_gemma")
    if ragged:
        assert choice.slower is None
        assert seen == []
        return
    assert choice.slower is not None
    assert seen == [SlowerPasses("reading", choice.slower.reason, choice.slower.cost)]
    assert choice.slower.cost == (ALONE if choice.alone else ORDINARY)
    assert choice.passes.runner.calibration.batch_size == (1 if choice.alone else 3)


def test_a_window_is_held_against_what_is_written_as_well() -> None:
    runner = make_runner("gemma3_text", 3)
    limit = column_limit(runner.loaded.model)
    assert limit is not None
    short = [[5] * (limit - 2), [5, 6]]
    assert choose(runner, short, longest=limit).slower is None
    slower = choose(runner, short, longest=limit + 1).slower
    assert slower is not None
    assert slower.reason == f"its attention window of {limit} tokens is narrower than the {limit + 1} that are read"


def test_passes_that_predict_otherwise_are_not_chosen() -> None:
    """Something in the middle of a row, which the last token alone would not show."""
    runner = make_runner("llama", 3)
    whole = runner.teacher_forced_batch

    def changed(encoded: Any, continuations: Any) -> list[torch.Tensor]:
        found = whole(encoded, continuations)
        return [torch.cat([logits[:2], logits[2:3].roll(1, -1), logits[3:]]) for logits in found]

    runner.teacher_forced_batch = changed  # type: ignore[method-assign]  # what ragged passes are compared with
    choice, _seen = saying(runner)
    assert not isinstance(choice.passes, RaggedPasses)
    assert choice.slower is not None
    assert choice.slower.reason == "its cached passes do not agree with its ordinary ones"


def test_suppressed_tokens_do_not_make_passes_differ() -> None:
    runner = make_runner("llama", 3)
    runner.loaded.model.generation_config.suppress_tokens = list(range(5, 200))
    assert choose(runner, rows(runner)).slower is None


def test_passes_that_agree_are_not_compared_again_but_for_much_longer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def comparing(runner: ModelRunner, forward: RaggedForward, rows: Rows) -> bool:
        compared.append(max(map(len, rows)))
        return predicts_alike(runner, forward, rows)

    monkeypatch.setattr(choosing, "predicts_alike", comparing)
    runner = make_runner("llama", 3)
    longest = max(map(len, rows(runner)))
    for options in ({}, {"packed": False}, {"longest": 3 * longest}):
        assert choose(runner, rows(runner), **options).slower is None
    assert choose(runner.calibrated(1), [[5] * REACH * longest]).slower is None
    assert compared == [longest]
    assert choose(runner, [[5] * (REACH * longest + 1)]).slower is None
    assert choose(make_runner("llama", 3), rows(runner)).slower is None
    assert compared == [longest, REACH * longest + 1, longest]


def test_passes_that_do_not_agree_are_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may have run out only once, and what disagreed may have been put right."""
    runner = make_runner("llama", 3)
    monkeypatch.setattr(choosing, "predicts_alike", lambda *_arguments: False)
    assert choose(runner, rows(runner)).slower is not None
    monkeypatch.undo()
    assert choose(runner, rows(runner)).slower is None


def test_what_ordinary_passes_are_wanted_for_is_the_reason() -> None:
    choice, (said,) = saying(make_runner("llama", 3), unless="somebody asks for it")
    assert not isinstance(choice.passes, RaggedPasses)
    assert said == SlowerPasses("reading", "somebody asks for it", ORDINARY)


@pytest.mark.parametrize(
    ("changes", "word"), [({"compile": True}, "--compile"), ({"engine": "inplace"}, "--engine inplace"), ({}, "")]
)
def test_compiled_models_and_the_reference_engine_keep_to_ordinary_passes(changes: dict[str, Any], word: str) -> None:
    found = ordinary_wanted(Settings(model="pico").model_copy(update=changes))
    assert word in found
    assert bool(found) is bool(word)


@pytest.mark.parametrize(("ratio", "said"), [(1.2, False), (2.7, True)])
def test_emulated_numbers_are_said(monkeypatch: pytest.MonkeyPatch, ratio: float, said: bool) -> None:
    monkeypatch.setattr(choosing, "product_time", lambda _dtype: ratio)
    slower = slower_model(make_runner("llama", dtype=torch.bfloat16).loaded)
    assert [own.cost for own in slower] == ["products take about 2.7 times as long"] * said
    assert slower_model(make_runner("llama").loaded) == []


def test_eager_attention_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = make_runner("llama").loaded
    monkeypatch.setattr(loaded.model.config, "_attn_implementation", "eager")
    assert [own.cost for own in slower_model(loaded)] == [EAGER]


def test_memory_that_runs_out_in_comparing_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: Any) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(choosing, "predicts_alike", full)
    choice, _seen = saying(make_runner("llama", 3))
    assert choice.slower is not None
    assert choice.slower.reason == "memory ran out when its passes were compared"


def test_padding_that_changes_answers_is_noticed() -> None:
    runner = reading_padding(make_runner("llama", 4))
    found = choose(runner, rows(runner), unless="so that padding is read")
    assert found.alone
    assert found.passes.runner.calibration.batch_size == 1
    assert found.slower is not None
    assert found.slower.cost == ALONE
    # Rows of one length are padded nowhere.
    assert not choose(runner, [rows(runner)[0]] * 3, unless="so that padding would be read").alone


def test_two_rows_that_do_not_fit_together_are_read_one_by_one() -> None:
    runner = make_runner("llama", 4)

    def small_only(_model: Any, _arguments: Any, keywords: dict[str, Any]) -> None:
        if len(keywords["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    runner.loaded.model.register_forward_pre_hook(small_only, with_kwargs=True)
    assert choose(runner, rows(runner), unless="ordinary").passes.runner.calibration.batch_size == 1
