"""What generations in threads of their own share: how they end, what room they have, how they are read."""

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria

from heretic.common.errors import OutOfMemoryError, PromptError

T = TypeVar("T")


class StopWhenSet(StoppingCriteria):
    """Ends a generation after the present token once its reader has left."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """See StoppingCriteria."""
        return torch.full((input_ids.shape[0],), self._event.is_set(), dtype=torch.bool, device=input_ids.device)


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
