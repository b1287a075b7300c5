import threading
from collections.abc import Callable

import pytest
import torch
from tests.models.pico import POSITIONS, build_pico, pico_tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from heretic.common.errors import OutOfMemoryError, PromptError
from heretic.passes import streaming
from heretic.passes.streaming import stream_answer

TEXT = "one two three\nfour five six"


class ScriptedHead(nn.Module):
    """An output layer that predicts the bytes of a prepared text, one after the other, whatever was said before."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, text: str) -> None:
        super().__init__()
        self.tokens = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        self.size = len(tokenizer)
        self.step = 0
        self.before_step: Callable[[int], None] = lambda step: None

    def forward(self, hidden: Tensor) -> Tensor:
        self.before_step(self.step)
        logits = torch.zeros(*hidden.shape[:-1], self.size)
        logits[..., self.tokens[min(self.step, len(self.tokens) - 1)]] = 10.0
        self.step += 1
        return logits


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return pico_tokenizer()


@pytest.fixture
def head(tokenizer: PreTrainedTokenizerFast) -> ScriptedHead:
    return ScriptedHead(tokenizer, TEXT)


@pytest.fixture
def model(head: ScriptedHead) -> PreTrainedModel:
    model = build_pico("llama")
    model.lm_head = head
    return model


def answering_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("answer")]


def test_pieces_come_one_by_one_and_make_up_the_answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    pieces = list(stream_answer(model, tokenizer, "Hello", 100, False))

    assert "".join(pieces) == TEXT
    assert len(pieces) >= 5
    assert answering_threads() == []


def test_a_real_models_answer_is_the_one_that_generate_gives(tokenizer: PreTrainedTokenizerFast) -> None:
    model = build_pico("qwen3")
    prompt = tokenizer("Hello", return_tensors="pt", add_special_tokens=False)["input_ids"]
    generated = model.generate(prompt, max_new_tokens=20, do_sample=False)[0, prompt.shape[1] :]

    streamed = "".join(stream_answer(model, tokenizer, "Hello", 20, False))

    assert streamed == tokenizer.decode(generated, skip_special_tokens=True)
    assert streamed


def test_the_answer_ends_after_the_tokens_allowed(
    model: PreTrainedModel, head: ScriptedHead, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert "".join(stream_answer(model, tokenizer, "Hello", 5, False)) == TEXT[:5]
    assert head.step == 5


def test_pieces_arrive_while_the_model_still_generates(
    model: PreTrainedModel, head: ScriptedHead, tokenizer: PreTrainedTokenizerFast
) -> None:
    first_read = threading.Event()

    def wait(step: int) -> None:
        # Without the first piece read this fails, instead of hanging.
        assert step < 8 or first_read.wait(30)

    head.before_step = wait
    answer = stream_answer(model, tokenizer, "Hello", 100, False)

    first = next(answer)
    first_read.set()

    # How much a piece holds depends on the release of transformers.
    assert first
    assert first + "".join(answer) == TEXT


def test_a_reader_who_leaves_ends_the_generation(
    model: PreTrainedModel,
    head: ScriptedHead,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stops: list[threading.Event] = []

    class Watched(streaming.StopWhenSet):
        def __init__(self, event: threading.Event) -> None:
            super().__init__(event)
            stops.append(event)

    def wait(step: int) -> None:
        if step == 6:
            assert stops[0].wait(30)

    monkeypatch.setattr(streaming, "StopWhenSet", Watched)
    head.before_step = wait
    answer = stream_answer(model, tokenizer, "Hello", 100, False)
    assert TEXT.startswith(next(answer))

    answer.close()

    # The model waits at the seventh token until it is asked to stop, so that one is the last at the latest.
    assert stops[0].is_set()
    assert head.step <= 7
    assert answering_threads() == []


def test_an_error_of_the_generating_thread_reaches_the_reader(
    model: PreTrainedModel, head: ScriptedHead, tokenizer: PreTrainedTokenizerFast
) -> None:
    def fail(step: int) -> None:
        if step == 6:
            raise ZeroDivisionError("broken on purpose")

    head.before_step = fail
    answer = stream_answer(model, tokenizer, "Hello", 100, False)
    assert TEXT.startswith(next(answer))

    with pytest.raises(ZeroDivisionError, match="broken on purpose"):
        list(answer)
    assert answering_threads() == []


def test_memory_that_runs_out_is_named(
    model: PreTrainedModel, head: ScriptedHead, tokenizer: PreTrainedTokenizerFast
) -> None:
    def fail(step: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    head.before_step = fail

    with pytest.raises(OutOfMemoryError, match="memory"):
        list(stream_answer(model, tokenizer, "Hello", 100, False))


def test_the_models_positions_are_never_exceeded(
    model: PreTrainedModel, head: ScriptedHead, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert "".join(stream_answer(model, tokenizer, "x" * (POSITIONS - 3), 100, False)) == TEXT[:3]

    with pytest.raises(PromptError, match=f"{POSITIONS + 1} tokens and the model holds {POSITIONS}"):
        list(stream_answer(model, tokenizer, "x" * (POSITIONS + 1), 100, False))
    with pytest.raises(PromptError, match="nothing to answer"):
        list(stream_answer(model, tokenizer, "", 100, False))


@pytest.mark.parametrize("add", [True, False])
def test_special_tokens_are_added_only_where_asked(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, add: bool
) -> None:
    start = (str(tokenizer.bos_token), int(tokenizer.bos_token_id))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start[0]} $A", special_tokens=[start])
    seen: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[0][0].tolist()))

    assert "".join(stream_answer(model, tokenizer, "Hello", 100, add)) == TEXT
    assert (seen[0] == start[1]) is add
    assert seen.count(start[1]) == int(add)
