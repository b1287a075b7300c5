"""One answer of a model, piece by piece as it is generated, for the chats in the terminal and the browser."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TextStreamer,
)

from heretic.common.errors import OutOfMemoryError, PromptError

T = TypeVar("T")


class StopWhenSet(StoppingCriteria):
    """Ends a generation after the present token once its reader has left."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """See StoppingCriteria."""
        return torch.full((input_ids.shape[0],), self._event.is_set(), dtype=torch.bool, device=input_ids.device)


class _Pieces(TextStreamer):
    """Puts pieces of text into a queue as soon as they can be decoded: letters or words, by the release."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[no-untyped-call, unused-ignore]  # untyped in some releases
        self.queue: SimpleQueue[str | None] = SimpleQueue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """See TextStreamer."""
        self.queue.put(text)


def stream_answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    max_new_tokens: int,
    add_special_tokens: bool,
) -> Generator[str, None, None]:
    """Generate an answer in a thread of its own and yield its text as it comes, special tokens left out.

    The generation ends with the model's end token, after `max_new_tokens`, where the model's positions are used up,
    or after the present token once the generator is closed; closing waits for that. Sampling is as the model's
    generation configuration says.

    Args:
        model: Causal language model.
        tokenizer: Its tokenizer.
        text: The whole conversation, after the chat template where there is one.
        max_new_tokens: At most this many tokens.
        add_special_tokens: Whether the tokenizer adds its start token; False after a chat template, which has it.

    Yields:
        Pieces of the answer: words or letters, as transformers cuts them.

    Raises:
        PromptError: The conversation is empty or leaves no position for an answer.
        OutOfMemoryError: The device ran out of memory.
        Exception: Whatever else the generating thread raised, unchanged.
    """
    encoded = tokenizer(
        text, return_tensors="pt", add_special_tokens=add_special_tokens, return_token_type_ids=False
    ).to(model.get_input_embeddings().weight.device)
    room = room_behind(model, int(encoded["input_ids"].shape[1]))
    streamer = _Pieces(tokenizer)
    stop = threading.Event()

    def generate() -> None:
        model.generate(  # type: ignore[operator, unused-ignore]  # transformers mixes it in dynamically
            **encoded,
            streamer=streamer,
            max_new_tokens=max_new_tokens if room is None else min(max_new_tokens, room),
            num_beams=1,
            stopping_criteria=StoppingCriteriaList([StopWhenSet(stop)]),
        )

    yield from read_in_thread(generate, streamer.queue, stop)


def room_behind(model: PreTrainedModel, used: int) -> int | None:
    """How many tokens fit behind the `used` ones; None where the configuration names no limit."""
    if used == 0:
        raise PromptError("There is nothing to answer: the conversation has no tokens.")
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    if used >= limit:
        raise PromptError(
            f"The conversation has {used} tokens and the model holds {limit}: start a new one with less text."
        )
    return limit - used


def read_in_thread(
    generate: Callable[[], None], pieces: SimpleQueue[T | None], stop: threading.Event
) -> Generator[T, None, None]:
    """What a generation in a thread of its own puts into a queue; closing it sets `stop` and waits for the thread.

    Raises:
        OutOfMemoryError: The device ran out of memory.
        Exception: Whatever else the generating thread raised, unchanged.
    """

    def end(future: Future[None]) -> None:
        # Also of a generation that failed, whose reader would wait for ever.
        pieces.put(None)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="answer") as executor:
        future = executor.submit(generate)
        future.add_done_callback(end)
        try:
            while (piece := pieces.get()) is not None:
                if piece:
                    yield piece
        finally:
            stop.set()
    try:
        # Passes on what the generating thread raised.
        future.result()
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "The device ran out of memory during an answer; a shorter conversation needs less."
        ) from error
