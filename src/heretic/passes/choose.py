"""How a model is read: by ragged passes wherever they agree with ordinary ones; else why not, and what that costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from heretic.config import Settings
from heretic.models.memory import RanOut, attempt
from heretic.observability.events import SlowerPasses, emit
from heretic.passes.divergence import agree
from heretic.passes.packed import PackedLinears
from heretic.passes.ragged import RaggedForward, column_limit, ragged_obstacle
from heretic.passes.ragged_runner import RaggedRunner
from heretic.passes.runner import ModelRunner

COMPARED = 8
"""Predictions of each row by which both kinds of passes are compared: the last ones, which rest on all others."""
ORDINARY = "about twice as long"
"""What ordinary passes take: 1.8 times as long for answers, 1.9 for trials, 3 for questions that begin alike, on the
0.5 B model of benchmarks/README.md."""
ALONE = "several times as long"
"""What reading row by row takes."""
_COMPARING = "comparing ragged with ordinary passes"

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Slower:
    """That something is done in a slower way than the best one: why, and about how long it takes instead."""

    reason: str
    cost: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.cost})"


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """How one model is read.

    Attributes:
        passes: The way.
        slower: Why not the best, and what that costs; None for ragged passes.
        forward: What was seen to agree, good for as long as the weights stay as they are; None for ordinary passes.
        alone: Whether rows of different length must not be read together, because the model reads their padding.
    """

    passes: ModelRunner
    slower: Slower | None = None
    forward: RaggedForward | None = None
    alone: bool = False


def choose(
    runner: ModelRunner, rows: Rows, longest: int = 0, unless: str = "", doing: str = "", packed: bool = True
) -> Choice:
    """Choose how rows like these are read. Asked of the unedited model, so that an edited one is read alike.

    Args:
        runner: The model.
        rows: Token ids of what will be read, none empty.
        longest: Tokens of the longest row that is read in several steps, with what is written behind it; that of the
            longest row where it is 0.
        unless: Why ragged passes are not wanted; empty where they are.
        doing: What is read for, in words, for SlowerPasses; empty where whoever asks says it.
        packed: Whether a CPU multiplies by ordered copies of the weights.

    Returns:
        The choice. Emits SlowerPasses where it is not the best.
    """
    forward = unless or _agreeing(runner, rows, longest, packed)
    if isinstance(forward, RaggedForward):
        return Choice(RaggedRunner.like(runner), None, forward)
    alone = _reads_padding(runner, rows)
    reason = f"{forward}, and its padded passes do not agree with those of single rows" if alone else forward
    slower = Slower(reason, ALONE if alone and runner.calibration.batch_size > 1 else ORDINARY)
    if doing:
        emit(SlowerPasses(doing, slower.reason, slower.cost))
    return Choice(runner.calibrated(batch_size=1) if alone else runner, slower, None, alone)


def ordinary_wanted(settings: Settings) -> str:
    """Why the settings keep to ordinary passes, and to edits in the weights; empty where they do not.

    Hooks, and ordered copies of the weights, would break a compiled model's graph apart.
    """
    if settings.compile:
        return "edits on outputs would break the compiled model apart (--compile)"
    return "--engine inplace asks for it" if settings.engine == "inplace" else ""


def ragged_reason(runner: ModelRunner, rows: Rows, longest: int = 0) -> str:
    """Why rows like these cannot be read by ragged passes, as far as the model itself says; empty where they can."""
    obstacle = ragged_obstacle(runner.loaded)
    if obstacle is not None:
        return obstacle
    limit, needed = column_limit(runner.loaded.model), longest or max(map(len, rows))
    if limit is not None and needed > limit:
        return f"its attention window of {limit} tokens is narrower than the {needed} that are read"
    return ""


def _agreeing(runner: ModelRunner, rows: Rows, longest: int, packed: bool) -> RaggedForward | str:
    """Ragged passes that predict what ordinary ones do, or why there are none."""
    reason = ragged_reason(runner, rows, longest)
    if reason:
        return reason
    forward = RaggedForward(runner.loaded, runner.layout, PackedLinears(runner.loaded.model) if packed else None)
    alike = attempt(partial(predicts_alike, runner, forward, rows), runner.loaded.device, _COMPARING)
    if isinstance(alike, RanOut):
        return "memory ran out when its passes were compared"
    return forward if alike else "its cached passes do not agree with its ordinary ones"


@torch.inference_mode()
def predicts_alike(runner: ModelRunner, forward: RaggedForward, rows: Rows) -> bool:
    """Whether the shortest and the longest row, read in two steps side by side, predict what each does in one alone.

    Rows of a single token, and rows beyond an attention window, cannot be read in two steps and are left out.
    """
    limit = column_limit(runner.loaded.model)
    found = [row for row in rows if len(row) > 1 and (limit is None or len(row) <= limit)]
    if not found:
        return False
    split = [_split(row) for row in (min(found, key=len), max(found, key=len))]
    state = forward.start((), [0] * len(split))
    state.feed([start for start, _rest in split], [()] * len(split))
    ragged = state.feed([rest for _start, rest in split], [range(len(rest)) for _start, rest in split])
    if runner.suppressed_tokens:
        ragged[:, runner.suppressed_tokens] = -torch.inf
    # Each alone: what stands behind the last token does not matter, and neither does what follows the first part.
    ordinary: list[Tensor] = [runner.teacher_forced_batch([start], [(*rest, 0)])[0][1:] for start, rest in split]
    return agree(torch.cat(ordinary), ragged)


def _split(row: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    start = max(1, len(row) - COMPARED)
    return row[:start], row[start:]


def _reads_padding(runner: ModelRunner, rows: Rows) -> bool:
    """Whether what follows the shortest row is predicted otherwise beside the longest; also where both do not fit."""
    shortest, longest = min(rows, key=len), max(rows, key=len)
    if len(shortest) == len(longest):
        return False

    @torch.inference_mode()
    def differs() -> bool:
        alone = runner.first_token_logits([shortest])
        return not agree(alone, runner.first_token_logits([shortest, longest])[:1])

    found = attempt(differs, runner.loaded.device, "reading two rows at once")
    return isinstance(found, RanOut) or found
