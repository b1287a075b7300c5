"""Finding a batch size and backing off from it, and the prefix that all answers share."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from heretic.common.errors import OutOfMemoryError
from heretic.models.devices import compute_with, synchronize
from heretic.models.host_memory import free_host_memory
from heretic.models.memory import RanOut, attempt, halving, memory_text, memory_use
from heretic.observability.events import BatchSizeMeasured, emit
from heretic.passes.passes import Rows
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

T = TypeVar("T")

CLEAR_LOSS = 1.25
"""A batch is halved where a row of it takes so many times as long as one of its half, twice: once may be the load of
other programs. Writing gains from every further row, so reading decides."""
CPU_ROWS = 16
"""So many rows fill a CPU: what more would lose, these lose against half of them. Whether more fit is worked out."""
THREAD_LOOKS = 3
THREAD_ROWS = 8
"""Rows by which numbers of threads are compared: with few, threads wait for the weights of a large model."""
WORTHWHILE_GAIN = 1.15
"""All threads have to be so many times as fast as one, and are taken at the first look where they are CLEAR_GAIN."""
CLEAR_GAIN = 1.4
FREE_SHARE = 4
"""Predictions of a batch take at most this part of the free memory of a CPU, where the system would end the process."""

PREFIX_LOOKS = ((8, 1), (0, 4), (0, 48))
"""How many answers (0: all) and tokens of each are compared when a common prefix is looked for; further ones only where
these are the same, which for most models they are not."""

THINKING_BLOCKS = (
    ("<think>", "<think>\n\n</think>\n\n"),
    ("<thought>", "<thought></thought>"),
    ("<thinking>", "<thinking></thinking>"),
    ("<seed:think>", "<seed:think></seed:think>"),
    ("[THINK]", "[THINK][/THINK]"),
    ("<|START_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
    (
        "<|channel|>analysis<|message|>",
        "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    ("<|channel>thought", "<|channel>thought\n<channel|>"),
)
"""How reasoning starts, and the same block closed at once, so that what follows is the answer itself."""


def find_batch_size(runner: ModelRunner, prompts: Sequence[Prompt], maximum: int, compared_tokens: int) -> int:
    """The most rows that fit into memory, unless fewer are clearly faster.

    Measured by one pass over the longest prompts with their predictions over a whole response: no more rows than there
    are prompts, nor than `maximum`, and on a CPU no more than `CPU_ROWS`. Emits BatchSizeMeasured for each size.

    Args:
        runner: The model.
        prompts: What will be measured later on.
        maximum: Largest size that is tried.
        compared_tokens: Response positions whose full-vocabulary predictions are compared later on (see the KL
            evaluator).

    Raises:
        OutOfMemoryError: Not even one row fits.
    """
    rows = sorted((runner.encode(prompt) for prompt in prompts), key=len, reverse=True)

    def seconds_a_row(size: int) -> float | None:
        def read() -> float:
            return _seconds(runner, rows[:size], compared_tokens)

        seconds = attempt(read, runner.loaded.device, f"measuring a batch size of {size}")
        if isinstance(seconds, RanOut):
            emit(BatchSizeMeasured(size, None))
            return None
        emit(BatchSizeMeasured(size, size * (len(rows[0]) + compared_tokens) / seconds))
        return seconds / size

    most = _most_rows(runner, min(maximum, len(rows)), compared_tokens)
    measured = size = most if runner.loaded.device.type != "cpu" else min(most, CPU_ROWS)
    # The first pass ever pays for lazy set-up, so it does not count.
    attempt(lambda: _seconds(runner, rows[:1], 1), runner.loaded.device, "measuring a batch size of 1")
    whole = seconds_a_row(size)
    while whole is None and size > 1:
        size //= 2
        whole = seconds_a_row(size)
    if whole is None:
        raise OutOfMemoryError(
            "Not even one prompt fits into memory; use --quantization bnb_4bit, shorter prompts, a smaller "
            f"--kl-tokens, or a larger device ({memory_text(memory_use())})."
        )
    while size > 1:
        half = seconds_a_row(size // 2)
        if half is None or whole < CLEAR_LOSS * half:
            break
        again, half_again = seconds_a_row(size), seconds_a_row(size // 2)
        if again is None or half_again is None or min(whole, again) < CLEAR_LOSS * min(half, half_again):
            break
        size, whole = size // 2, min(half, half_again)
    return most if size == measured else size


def choose_threads(runner: ModelRunner, prompts: Sequence[Prompt], wanted: int = 0) -> int:
    """Compute with the threads that are wanted, else with so many as are fastest; returns their number.

    One is chosen where more hardly gain: small models, and cores that others use. A few prompts are read a few times
    with one thread and with all.

    Args:
        runner: The model.
        prompts: What will be read.
        wanted: How many; 0 to choose, which is left to torch (and answered by 0) where no CPU computes.
    """
    if wanted or runner.loaded.device.type != "cpu":
        compute_with(wanted)
        return wanted
    most = torch.get_num_threads()
    if most == 1:
        return most
    rows = [runner.encode(prompt) for prompt in prompts[:THREAD_ROWS]]
    best = dict.fromkeys((most, 1), float("inf"))
    for _ in range(THREAD_LOOKS):
        for threads in best:
            compute_with(threads)
            best[threads] = min(best[threads], _seconds(runner, rows, 1))
        if best[1] > CLEAR_GAIN * best[most]:
            break
    chosen = most if best[1] > WORTHWHILE_GAIN * best[most] else 1
    compute_with(chosen)
    return chosen


def backing_off(runner: ModelRunner, work: Callable[[ModelRunner], T], doing: str) -> tuple[T, ModelRunner]:
    """See `models.memory.halving`: do something with a runner, and say which runner it was achieved with."""
    whole = runner.calibration.batch_size

    def fitting(size: int) -> ModelRunner:
        return runner if size == whole else runner.calibrated(batch_size=size)

    result, size = halving(whole, lambda size: work(fitting(size)), runner.loaded.device, doing)
    return result, fitting(size)


def _most_rows(runner: ModelRunner, most: int, compared_tokens: int) -> int:
    """So many rows, on a CPU halved until their predictions leave room: there nobody says that memory ran out."""
    device = runner.loaded.device
    if device.type != "cpu":
        return most
    # Predictions are compared in float32, both models' side by side.
    bytes_a_row = 8 * compared_tokens * len(runner.loaded.tokenizer)
    while most > 1 and most * bytes_a_row * FREE_SHARE > free_host_memory():
        most //= 2
    return most


def _seconds(runner: ModelRunner, rows: Rows, compared_tokens: int) -> float:
    """How long one pass over these rows takes; which tokens are predicted does not matter."""
    synchronize(runner.loaded.device)
    start = time.perf_counter()
    runner.teacher_forced_batch(rows, [(0,) * compared_tokens] * len(rows))
    synchronize(runner.loaded.device)
    return time.perf_counter() - start


def find_response_prefix(runner: ModelRunner, prompts: Sequence[Prompt]) -> str:
    """What every answer to these prompts starts with, any thinking block closed; empty where nothing is shared.

    Answers are compared token by token, special tokens included: a prefix never ends inside a token.
    """
    runner = runner.calibrated(response_prefix="")
    opened = _opened_by_template(runner, prompts[0])
    if opened:
        return opened
    prefix = _shared_text(runner, prompts)
    closed = closed_thinking(prefix)
    if closed is None:
        return prefix
    # After the closed block all answers may share more, e.g. a heading.
    return closed + _shared_text(runner.calibrated(response_prefix=closed), prompts)


def thinking_prefix(runner: ModelRunner, prompt: Prompt) -> str:
    """What keeps the answer to a prompt from beginning with a thinking block; empty where it would not."""
    runner = runner.calibrated(response_prefix="")
    opened = _opened_by_template(runner, prompt)
    return opened or closed_thinking(_shared_text(runner, [prompt])) or ""


def _shared_text(runner: ModelRunner, prompts: Sequence[Prompt]) -> str:
    shared: tuple[int, ...] = ()
    for count, tokens in PREFIX_LOOKS:
        some = prompts[:: max(1, len(prompts) // count)] if count else prompts
        shared = _common_prefix([response.tokens for response in runner.generate(some, tokens)])
        if not shared or (not count and len(shared) < tokens):
            break
    end = next((index for index, token in enumerate(shared) if token in runner.end_tokens), len(shared))
    text = str(runner.loaded.tokenizer.decode(list(shared[:end]), skip_special_tokens=False))
    # The last token may hold half a character; a trailing space belongs to the next word's token.
    return text.rstrip("\ufffd").rstrip(" ")


def closed_thinking(prefix: str) -> str | None:
    """The closed form of a prefix that opens a thinking block, or None where it opens none."""
    for opening, closed in THINKING_BLOCKS:
        if prefix.lstrip().startswith(opening):
            return closed
    return None


def _opened_by_template(runner: ModelRunner, prompt: Prompt) -> str:
    """What closes a thinking block that the chat template itself opened at the end of the prompt."""
    rendered = runner.formatter.render(prompt).rstrip()
    for opening, closed in THINKING_BLOCKS:
        if rendered.endswith(opening):
            return closed[len(opening) :]
    return ""


def _common_prefix(sequences: Sequence[Sequence[int]]) -> tuple[int, ...]:
    shortest = min(sequences, key=len)
    for position, token in enumerate(shortest):
        if any(sequence[position] != token for sequence in sequences):
            return tuple(shortest[:position])
    return tuple(shortest)
