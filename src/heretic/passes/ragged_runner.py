"""RaggedRunner: long answers and long prompts by ragged passes, which spend nothing on rows that are finished.

For measurements that are made once, of the weights as they are: what `ModelRunner` does in the ordinary way, with the
same results but for rounding.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from heretic.passes.greedy_rows import Greedy, GreedyRows, look_interval
from heretic.passes.packed import PackedLinears
from heretic.passes.ragged import KeyValues, RaggedForward, column_limit, split_shared_prefix
from heretic.passes.runner import ModelRunner, Response, longest_first
from heretic.prompts.types import Prompt

SHARED = 0.5
"""Rows are read behind a shared beginning where that is at least this part of each."""
FEWEST = 4
"""Rows of which that is true; fewer are read with the others, since small batches cost more than they save."""


class RaggedRunner(ModelRunner):
    """A runner that may take the weights for constant while it answers or reads; chosen in passes.choose."""

    @classmethod
    def like(cls, runner: ModelRunner) -> "RaggedRunner":
        """The same model in the same calibration."""
        return cls(runner.loaded, runner.layout, runner.formatter, runner.calibration)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Response]:
        """Greedy answers of at most `max_new_tokens` tokens."""
        encoded = [self.encode(prompt) for prompt in prompts]
        forward = self._forward_for(encoded, max_new_tokens) if encoded else None
        if forward is None:
            return super().generate(prompts, max_new_tokens)
        greedy = Greedy(self.suppressed_tokens)
        found: dict[int, list[int]] = {}
        for rows in longest_first(encoded, self.calibration.batch_size):
            answers = self._answers(forward, [encoded[row] for row in rows], max_new_tokens, greedy)
            found.update(zip(rows, answers, strict=True))
        return [self.response(found[row]) for row in range(len(prompts))]

    def _answers(
        self, forward: RaggedForward, encoded: Sequence[Sequence[int]], most: int, greedy: Greedy
    ) -> list[list[int]]:
        """At most so many tokens behind each row, those behind its end token included."""
        state = forward.start((), [0] * len(encoded))
        first = greedy(state.feed(encoded, _last(encoded)))
        written = GreedyRows(state, first, greedy)
        answers: list[list[int]] = [[] for _ in encoded]
        open_rows = list(range(len(encoded)))
        interval, ends = look_interval(self.loaded.device), self.end_tokens
        while True:
            length = len(answers[open_rows[0]]) + written.unread
            if written.unread >= interval or length >= most:
                for row, own in zip(open_rows, written.look(), strict=True):
                    answers[row] += own
                places = [
                    place for place, row in enumerate(open_rows) if length < most and ends.isdisjoint(answers[row])
                ]
                if not places:
                    return answers
                if len(places) < len(open_rows):
                    written.keep(places)
                    open_rows = [open_rows[place] for place in places]
            written.step()

    @torch.inference_mode()
    def next_token_logits(self, encoded: Sequence[Sequence[int]]) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """See ModelRunner; what rows begin with together is read once."""
        forward = self._forward_for(encoded, 0) if encoded else None
        if forward is None:
            yield from super().next_token_logits(encoded)
            return
        for group in alike(encoded):
            rows = [encoded[row] for row in group]
            both = split_shared_prefix(rows, rows[0])
            prefix = forward.prefix(both.tokens, 1)
            for places in longest_first(both.rests, self.calibration.batch_size):
                logits = _behind(forward, prefix, [both.rests[place] for place in places])
                yield tuple(group[place] for place in places), logits

    def _forward_for(self, encoded: Sequence[Sequence[int]], further: int) -> RaggedForward | None:
        """Ragged passes over these rows and so many further tokens; None beyond an attention window."""
        limit = column_limit(self.loaded.model)
        if limit is not None and max(map(len, encoded), default=0) + further > limit:
            return None
        return RaggedForward(self.loaded, self.layout, PackedLinears(self.loaded.model))


def _behind(forward: RaggedForward, prefix: KeyValues, rests: Sequence[Sequence[int]]) -> Tensor:
    """Logits [B, V] of what follows rows behind one shared prefix; their cache is gone when this returns."""
    return forward.start(prefix, [0] * len(rests)).feed(rests, _last(rests))


def _last(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The last position of each row."""
    return [[len(row) - 1] for row in rows]


def alike(encoded: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of rows in groups, in which every row begins as the group's first one does for half its length.

    The last group has whatever rows are left.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(encoded)), key=lambda row: tuple(encoded[row])):
        own = encoded[row]
        if groups and shared_length(encoded[groups[-1][0]], own) >= SHARED * len(own):
            groups[-1].append(row)
        else:
            groups.append([row])
    left = [row for group in groups if len(group) < FEWEST for row in group]
    return [group for group in groups if len(group) >= FEWEST] + ([left] if left else [])


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    places = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in places if one != other), min(len(first), len(second)))
