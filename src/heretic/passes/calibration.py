"""Finding a batch size by measured throughput and backing off from it, and the prefix that all answers share."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from heretic.common.errors import OutOfMemoryError
from heretic.models.devices import synchronize
from heretic.models.memory import RanOut, attempt, halving, memory_text, memory_use
from heretic.observability.events import BatchSizeMeasured, emit
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

T = TypeVar("T")

MEASURED_TOKENS = 8
"""Tokens generated per row while measuring: enough to weigh decoding against reading the prompt."""
WORTHWHILE_GAIN = 1.05
"""A doubled batch size has to be this much faster, else it counts as no gain: memory is better spent elsewhere."""
PATIENCE = 2
"""Doublings without gain after which the search ends; one alone may be another program's load."""

PREFIX_TOKENS = 48
"""Answers are compared over this many tokens when a common prefix is looked for."""

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
    """The power of two with the highest measured tokens per second.

    Doubles while that pays and memory lasts; never more rows than there are prompts, nor than `maximum`. Every size is
    measured with the longest prompts, and fits only if their predictions over a whole response fit as well.

    Args:
        runner: The model.
        prompts: What will be measured later on.
        maximum: Largest size that is tried.
        compared_tokens: Response positions whose full-vocabulary predictions are compared later on (see the KL
            evaluator).

    Raises:
        OutOfMemoryError: Not even one row fits.
    """
    longest_first = sorted(prompts, key=lambda prompt: -len(runner.encode(prompt)))

    def rate_of(size: int) -> float | None:
        sized, rows = runner.calibrated(batch_size=size), longest_first[:size]
        rate = attempt(
            lambda: _rate_if_it_fits(sized, rows, compared_tokens),
            runner.loaded.device,
            f"measuring a batch size of {size}",
        )
        return None if isinstance(rate, RanOut) else rate

    best_size, best_rate = 0, 0.0
    size = 1
    limit = min(maximum, len(prompts))
    # The first pass ever pays for lazy set-up, so it does not count; where it fails, so will the next.
    rate_of(1)
    without_gain = 0
    while True:
        size = min(size, limit)
        rate = rate_of(size)
        emit(BatchSizeMeasured(size, rate))
        if rate is None:
            break
        if rate > best_rate * WORTHWHILE_GAIN:
            best_size, best_rate, without_gain = size, rate, 0
        else:
            without_gain += 1
        if without_gain == PATIENCE or size == limit:
            break
        size *= 2
    if best_size == 0:
        raise OutOfMemoryError(
            "Not even one prompt fits into memory; use --quantization bnb_4bit, shorter prompts, a smaller "
            f"--kl-tokens, or a larger device ({memory_text(memory_use())})."
        )
    return best_size


def backing_off(runner: ModelRunner, work: Callable[[ModelRunner], T], doing: str) -> tuple[T, ModelRunner]:
    """See `models.memory.halving`: do something with a runner, and say which runner it was achieved with."""
    whole = runner.calibration.batch_size

    def fitting(size: int) -> ModelRunner:
        return runner if size == whole else runner.calibrated(batch_size=size)

    result, size = halving(whole, lambda size: work(fitting(size)), runner.loaded.device, doing)
    return result, fitting(size)


def _rate_if_it_fits(runner: ModelRunner, prompts: Sequence[Prompt], compared_tokens: int) -> float:
    """Tokens per second of generating; what comparing predictions takes in addition counts for memory only."""
    rate = _tokens_per_second(runner, prompts)
    # Which tokens are read does not matter.
    encoded = [runner.encode(prompt) for prompt in prompts]
    for _predictions in runner.teacher_forced(encoded, [(0,) * compared_tokens] * len(prompts)):
        pass
    return rate


def _tokens_per_second(runner: ModelRunner, prompts: Sequence[Prompt]) -> float:
    synchronize(runner.loaded.device)
    start = time.perf_counter()
    runner.generate(prompts, MEASURED_TOKENS)
    synchronize(runner.loaded.device)
    return len(prompts) * MEASURED_TOKENS / (time.perf_counter() - start)


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
    shared = _common_prefix([response.tokens for response in runner.generate(prompts, PREFIX_TOKENS)])
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
