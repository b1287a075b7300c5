from collections import Counter

import pytest
import torch
from tests.unit.passes.pico_runner import make_runner

from heretic.common.errors import OutOfMemoryError, PromptError
from heretic.passes.conversing import Sampling, Written, own_sampling, stream_rows, stream_text
from heretic.passes.runner import ModelRunner

TEXTS = ("Hello there", "What is the weather like on the other side of the hill?")


@pytest.fixture(scope="module")
def runner() -> ModelRunner:
    return make_runner("llama")


def last(runner: ModelRunner, rows: list[list[int]], sampling: Sampling) -> tuple[Written, ...]:
    return list(stream_rows(runner, rows, sampling))[-1]


def test_every_token_is_told_and_padded_rows_say_what_they_say_alone(runner: ModelRunner) -> None:
    rows = [runner.encode_rendered(text) for text in TEXTS]
    told = list(stream_rows(runner, rows, Sampling(max_new_tokens=12)))
    assert [part[1].tokens for part in told] == list(range(1, len(told) + 1))
    assert [part.context for part in told[0]] == [len(row) for row in rows]
    alone = [last(runner, [row], Sampling(max_new_tokens=12))[0] for row in rows]
    assert list(told[-1]) == alone


def test_the_same_dice_fall_for_all_rows_and_the_same_seed(runner: ModelRunner) -> None:
    row = runner.encode_rendered(TEXTS[0])
    hot = Sampling(max_new_tokens=16, temperature=1.5, seed=5)
    first, second = last(runner, [row, row], hot)
    assert first == second
    assert last(runner, [row], hot)[0] == first
    others = {last(runner, [row], Sampling(16, 1.5, 1.0, seed))[0].text for seed in range(6)}
    assert len(others) > 1


def test_draws_follow_the_models_probabilities(runner: ModelRunner) -> None:
    row = runner.encode_rendered(TEXTS[0])
    with torch.inference_mode():
        probabilities = runner.first_token_logits([row])[0].float().softmax(-1)
    draws = 300
    # One row a seed: rows of one batch would all fall alike.
    counts = Counter(last(runner, [row], Sampling(1, 1.0, 1.0, seed))[0].text for seed in range(draws))
    likeliest = int(probabilities.argmax())
    text = runner.response([likeliest]).text
    expected = sum(float(share) for token, share in enumerate(probabilities) if runner.response([token]).text == text)
    spread = (expected * (1 - expected) / draws) ** 0.5
    assert abs(counts[text] / draws - expected) < 4 * spread


def test_a_tiny_top_p_is_greedy(runner: ModelRunner) -> None:
    row = runner.encode_rendered(TEXTS[1])
    assert last(runner, [row], Sampling(8, 1.0, 0.01, 3)) == last(runner, [row], Sampling(8))


def test_closing_ends_the_generation(runner: ModelRunner) -> None:
    stream = stream_rows(runner, [runner.encode_rendered(TEXTS[0])], Sampling(max_new_tokens=100))
    assert next(stream)[0].tokens == 1
    stream.close()
    assert list(stream) == []


def test_a_conversation_that_fills_the_model_is_refused(runner: ModelRunner) -> None:
    with pytest.raises(PromptError):
        list(stream_rows(runner, [[]], Sampling()))
    with pytest.raises(PromptError):
        list(stream_rows(runner, [[5] * 10_000], Sampling()))


def test_text_comes_in_pieces_that_make_up_the_answer(runner: ModelRunner) -> None:
    row, sampling = runner.encode_rendered(TEXTS[0]), Sampling(12)
    pieces = list(stream_text(runner, row, sampling))
    *_, (written,) = stream_rows(runner, [row], sampling)
    assert "".join(pieces) == written.text.rstrip("\ufffd")
    assert len(pieces) > 1


def test_an_answer_is_sampled_as_the_model_says(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = runner.loaded.model.generation_config
    assert own_sampling(runner, 9, 4) == Sampling(9)
    monkeypatch.setattr(configuration, "do_sample", True)
    monkeypatch.setattr(configuration, "temperature", 0.7)
    monkeypatch.setattr(configuration, "top_p", None)
    assert own_sampling(runner, 9, 4) == Sampling(9, 0.7, 1.0, 4)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError("it broke"), ValueError),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), OutOfMemoryError),
    ],
)
def test_what_the_generating_thread_raises_reaches_the_reader(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch, raised: Exception, told: type[Exception]
) -> None:
    def fails(**_arguments: object) -> None:
        raise raised

    monkeypatch.setattr(runner.loaded.model, "generate", fails)
    with pytest.raises(told):
        list(stream_text(runner, runner.encode_rendered(TEXTS[0]), Sampling(4)))
