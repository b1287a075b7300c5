"""Ragged passes over any rows: finished answers leave their batch, and what rows begin with together is read once.

For measurements that are made once, of the weights as they are when it is asked; the same as by ordinary passes but for
rounding. What trials read again and again stands in side_by_side.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from heretic.observability.events import SlowerPasses, emit
from heretic.passes.divergence import most_likely
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.packed import PackedLinears
from heretic.passes.passes import ORDINARY, Rows
from heretic.passes.ragged import KeyValues, RaggedForward, RaggedState, split_shared_prefix, window_obstacle
from heretic.passes.runner import ModelRunner, Response, longest_first, residuals_at

T = TypeVar("T")

SHARED = 0.5
"""Rows are read behind a shared beginning where that is at least this part of each."""
FEWEST = 4
"""Rows of which that is true; fewer are read with the others, since small batches cost more than they save."""
WORTH_A_PASS = 64
"""Tokens that a shared beginning has to save: a pass over few tokens takes as long as one over so many."""
DEVICE_INTERVAL = 8
"""Steps between two looks on a device: each look waits for it, each step too many is computed in vain."""


class RaggedPasses(OrdinaryPasses):
    """See Passes. Predictions are made in the ordinary way: every token is read once either way."""

    def __init__(self, runner: ModelRunner, forward: RaggedForward | None = None) -> None:
        """Read by a model's weights.

        Args:
            runner: The model.
            forward: Passes that the weights stay ordered for, because nobody writes to them; else made when needed.
        """
        super().__init__(runner)
        self._forward = forward
        self._said = False

    def answers(self, rows: Rows, most: int, doing: str) -> list[Response]:
        """See Passes."""
        if not rows or self._beyond_window(rows, most, doing):
            return super().answers(rows, most, doing)

        def read(runner: ModelRunner) -> list[Response]:
            with self._passes(runner) as forward:
                return _answers(runner, forward, rows, most)

        return self._fitting(read, doing)

    def residuals(self, rows: Rows, look: Callable[[Iterator[Tensor]], T], doing: str) -> T:
        """See Passes."""
        if not rows or self._beyond_window(rows, 0, doing):
            return super().residuals(rows, look, doing)

        def read(runner: ModelRunner) -> T:
            with self._passes(runner) as forward:
                return look(_residuals(runner, forward, rows))

        return self._fitting(read, doing)

    def next_tokens(self, rows: Rows, look: Callable[[Tensor], Sequence[T]], doing: str) -> list[T]:
        """See Passes."""
        if not rows or self._beyond_window(rows, 0, doing):
            return super().next_tokens(rows, look, doing)

        def logits(runner: ModelRunner, rows: Rows) -> Iterator[tuple[Sequence[int], Tensor]]:
            with self._passes(runner) as forward:
                yield from _next_token_logits(runner, forward, rows)

        return self._seen(logits, rows, look, doing)

    @contextmanager
    def _passes(self, runner: ModelRunner) -> Iterator[RaggedForward]:
        """By the weights as they are now, which are in their plain order again behind it unless they stay so."""
        if self._forward is not None:
            yield self._forward
            return
        ordered = PackedLinears(runner.loaded.model)
        try:
            yield RaggedForward(runner.loaded, runner.layout, ordered)
        finally:
            ordered.give_back()

    def _beyond_window(self, rows: Rows, further: int, doing: str) -> bool:
        """Whether these rows are longer than those that ragged passes were chosen for, which is said once."""
        reason = window_obstacle(self.runner.loaded.model, max(map(len, rows)) + further)
        if reason is not None and not self._said:
            self._said = True
            emit(SlowerPasses(doing, reason, ORDINARY))
        return reason is not None


@torch.inference_mode()
def _answers(runner: ModelRunner, forward: RaggedForward, rows: Rows, most: int) -> list[Response]:
    greedy = Greedy(runner.suppressed_tokens)
    by_row: dict[int, list[int]] = {}
    for places in longest_first(rows, runner.calibration.batch_size):
        answers = _written(forward, [rows[place] for place in places], most, greedy, runner.end_tokens)
        by_row.update(zip(places, answers, strict=True))
    return [runner.response(by_row[row]) for row in range(len(rows))]


def _written(
    forward: RaggedForward, rows: Rows, most: int, greedy: "Greedy", end_tokens: frozenset[int]
) -> list[list[int]]:
    """At most so many tokens behind each row, those behind its end token included."""
    prefix, rests = behind_prefix(forward, rows)
    state = forward.start(prefix, [0] * len(rows))
    written = GreedyRows(state, greedy(state.feed(rests, last_of(rests))), greedy)
    answers: list[list[int]] = [[] for _ in rows]
    open_rows = list(range(len(rows)))
    interval = look_interval(forward.loaded.device)
    while True:
        if written.unread >= interval or written.length >= most:
            for row, tokens in zip(open_rows, written.look(), strict=True):
                answers[row] += tokens
            ended = written.length >= most
            places = [place for place, row in enumerate(open_rows) if not ended and end_tokens.isdisjoint(answers[row])]
            if not places:
                return answers
            if len(places) < len(open_rows):
                written.keep(places)
                open_rows = [open_rows[place] for place in places]
        written.step()


@torch.inference_mode()
def _next_token_logits(
    runner: ModelRunner, forward: RaggedForward, rows: Rows
) -> Iterator[tuple[Sequence[int], Tensor]]:
    """What follows each row; what rows begin with together is read once."""
    for group in alike(rows):
        prefix, rests = behind_prefix(forward, [rows[row] for row in group])
        for places in longest_first(rests, runner.calibration.batch_size):
            logits = _behind(forward, prefix, [rests[place] for place in places])
            yield [group[place] for place in places], logits


@torch.inference_mode()
def _residuals(runner: ModelRunner, forward: RaggedForward, rows: Rows) -> Iterator[Tensor]:
    """Those of each row's last token; what all rows begin with is read once."""
    prefix, rests = behind_prefix(forward, rows)
    for places in longest_first(rests, runner.calibration.batch_size):
        tokens = [rests[place] for place in places]

        def read(tokens: Rows = tokens) -> None:
            forward.start(prefix, [0] * len(tokens)).feed(tokens, [()] * len(tokens))

        yield residuals_at([len(row) - 1 for row in tokens], forward.layers, read).to(runner.loaded.device)


def behind_prefix(forward: RaggedForward, rows: Rows) -> tuple[KeyValues, Rows]:
    """What all rows begin with, read once, and the rest of each; nothing where a pass of its own would not pay."""
    both = split_shared_prefix(rows, rows[0])
    if len(both.tokens) * (len(rows) - 1) < WORTH_A_PASS:
        return (), rows
    return forward.prefix(both.tokens, 1), both.rests


def _behind(forward: RaggedForward, prefix: KeyValues, rests: Rows) -> Tensor:
    """Logits [B, V] of what follows rows behind one shared prefix; their cache is gone when this returns."""
    return forward.start(prefix, [0] * len(rests)).feed(rests, last_of(rests))


def last_of(rows: Rows) -> list[list[int]]:
    """The last position of each row."""
    return [[len(row) - 1] for row in rows]


def alike(rows: Rows) -> list[list[int]]:
    """Indices of rows in groups, in which every row begins as the group's first one does for half its length.

    The last group has whatever rows are left.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(rows)), key=lambda row: tuple(rows[row])):
        tokens = rows[row]
        if groups and shared_length(rows[groups[-1][0]], tokens) >= SHARED * len(tokens):
            groups[-1].append(row)
        else:
            groups.append([row])
    left = [row for group in groups if len(group) < FEWEST for row in group]
    return [group for group in groups if len(group) >= FEWEST] + ([left] if left else [])


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    places = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in places if one != other), min(len(first), len(second)))


def look_interval(device: torch.device) -> int:
    """Steps between two looks at what is written; on the host looking costs nothing."""
    return 1 if device.type == "cpu" else DEVICE_INTERVAL


class Greedy:
    """Chooses the most likely token that is not suppressed."""

    def __init__(self, suppressed: Sequence[int]) -> None:
        self._suppressed = torch.tensor(list(suppressed), dtype=torch.long)

    def __call__(self, logits: Tensor) -> Tensor:
        """[B, V] logits, which are changed, to [B] tokens."""
        if len(self._suppressed):
            # Moved once, not with every token.
            self._suppressed = self._suppressed.to(logits.device)
            logits.index_fill_(1, self._suppressed, -torch.inf)
        return most_likely(logits)


class GreedyRows:
    """Rows of a state that are continued token by token, which are taken from the device only when somebody looks.

    Attributes:
        length: Tokens that every row has behind its prompt.
        unread: How many of them are on the device only.
    """

    def __init__(self, state: RaggedState, first: Tensor, greedy: Greedy) -> None:
        """Go on behind what was read.

        Args:
            state: Rows whose prompts are read.
            first: [B] their first tokens.
            greedy: Chooses the further ones.
        """
        self.length = 1
        self._state = state
        self._greedy = greedy
        self._last = first
        self._unread = [first]

    @property
    def unread(self) -> int:
        """See GreedyRows."""
        return len(self._unread)

    def step(self) -> None:
        """One token more for every row, left on the device."""
        self._last = self._greedy(self._state.step(self._last))
        self._unread.append(self._last)
        self.length += 1

    def look(self) -> list[list[int]]:
        """What was added to every row since the last look, which waits for the device."""
        unread, self._unread = self._unread, []
        return torch.stack(unread, dim=1).tolist() if unread else [[] for _ in self._last]

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows only, in this order; `look` comes first."""
        self._state.select(places)
        self._last = self._last[torch.tensor(list(places), device=self._last.device)]
