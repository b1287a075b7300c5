"""Answers to conversations, several rows at once and token by token, for the chats in browser and terminal.

Rows share their dice: a token is drawn by adding the same noise to every row's logits, so that rows which the model
would answer alike are answered alike, and what differs comes from the model.
"""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.streamers import BaseStreamer

from heretic.models.memory import USAGE
from heretic.passes.runner import ModelRunner
from heretic.passes.streaming import StopWhenSet, read_in_thread, room_behind


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are written.

    Attributes:
        max_new_tokens: Longest answer.
        temperature: 0 takes the most likely token.
        top_p: Only the likeliest tokens that together have this probability are drawn from; 1 for all.
        seed: Of the dice.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """What a row says so far.

    Attributes:
        text: Without special tokens.
        tokens: Number of tokens of the answer.
        context: Tokens that were read before it.
        is_over: Whether the model ended it.
    """

    text: str
    tokens: int
    context: int
    is_over: bool


def stream_rows(
    runner: ModelRunner, rows: Sequence[Sequence[int]], sampling: Sampling
) -> Generator[tuple[Written, ...], None, None]:
    """Generate answers in a thread of its own and yield what all rows say so far, after every token.

    An answer ends with the model's end token, after `max_new_tokens`, or where the model's positions are used up;
    closing the generator ends all after the present token and waits for that.

    Args:
        runner: The model.
        rows: Token ids of the rendered conversations; shorter ones are padded on the left.
        sampling: How tokens are chosen.

    Raises:
        PromptError: A conversation is empty or leaves no position for an answer.
        OutOfMemoryError: The device ran out of memory.
    """
    model: Any = runner.loaded.model
    room = min((room_behind(model, len(row)) or sampling.max_new_tokens for row in rows), default=0)
    batch = runner.pad(rows, tuple(range(len(rows))))
    stop, streamer = threading.Event(), _Tokens()
    configuration = runner.greedy_configuration(min(sampling.max_new_tokens, room))

    def generate() -> None:
        with torch.inference_mode():
            model.generate(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                generation_config=configuration,
                logits_processor=_processors(sampling),
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([StopWhenSet(stop)]),
            )

    answers: list[list[int]] = [[] for _ in rows]
    ended = [False] * len(rows)
    for tokens in read_in_thread(generate, streamer.queue, stop):
        for row, token in enumerate(tokens):
            if not ended[row]:
                answers[row].append(token)
                ended[row] = token in runner.end_tokens
                USAGE.tokens += 1
        yield tuple(
            Written(runner.response(answer).text, len(answer), len(read), over)
            for answer, read, over in zip(answers, rows, ended, strict=True)
        )


def stream_text(runner: ModelRunner, row: Sequence[int], sampling: Sampling) -> Generator[str, None, None]:
    """One answer in pieces of text, as they come; see `stream_rows`."""
    said = ""
    for (written,) in stream_rows(runner, [row], sampling):
        # A letter of several tokens is none before its last one.
        text = written.text.rstrip("\ufffd") if not written.is_over else written.text
        if text.startswith(said) and text != said:
            yield text[len(said) :]
            said = text


def own_sampling(runner: ModelRunner, max_new_tokens: int, seed: int) -> Sampling:
    """How a model says that it is to be sampled."""
    configuration: Any = runner.loaded.model.generation_config
    if not configuration.do_sample:
        return Sampling(max_new_tokens)
    temperature, top_p = (1.0 if value is None else value for value in (configuration.temperature, configuration.top_p))
    return Sampling(max_new_tokens, temperature, top_p, seed)


class _Tokens(BaseStreamer):
    """Puts the newest token of every row into a queue."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[tuple[int, ...] | None] = SimpleQueue()
        self._saw_prompt = False

    def put(self, value: Tensor) -> None:
        """See BaseStreamer: first the prompts [B, T], then a token a row [B]."""
        if self._saw_prompt:
            self.queue.put(tuple(value.flatten().tolist()))
        self._saw_prompt = True

    def end(self) -> None:
        """See BaseStreamer."""


def _processors(sampling: Sampling) -> LogitsProcessorList:
    if sampling.temperature <= 0:
        return LogitsProcessorList()
    chain: list[LogitsProcessor] = [TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_p < 1:
        chain.append(TopPLogitsWarper(sampling.top_p))
    return LogitsProcessorList([*chain, _SameDice(sampling.seed)])


class _SameDice(LogitsProcessor):
    """Adds Gumbel noise, so that the most likely token is a draw; the same noise for all rows (Gumbel-max)."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = torch.rand(scores.shape[-1], generator=self._generator, dtype=torch.float64)
        noise = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
        return scores.float() + noise.to(scores.device, torch.float32)
