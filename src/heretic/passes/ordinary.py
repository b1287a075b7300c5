"""Ordinary passes: rows padded on the left and read from their beginning, by the model's own forward and generation.

For every model; the only ones for recurrent and linear-attention layers, vision-language models, models without token
positions, attention windows narrower than what is read, and edits in the weights. Nothing is shared and nothing kept.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from torch import Tensor

from heretic.observability.steps import counted
from heretic.passes.calibration import backing_off
from heretic.passes.passes import Applied, AssignRows, C, Carrier, Rows
from heretic.passes.runner import ModelRunner, Response

T = TypeVar("T")

Batches = Callable[[ModelRunner, Rows], Iterator[tuple[Sequence[int], Tensor]]]
"""Row indices of a batch with the logits [B, V] of what follows each, until all rows are read."""

MOST_CANDIDATES = 16


class OrdinaryPasses:
    """See Passes."""

    def __init__(self, runner: ModelRunner) -> None:
        self.runner = runner

    def answers(self, rows: Rows, most: int, doing: str) -> list[Response]:
        """See Passes."""
        return self._fitting(lambda runner: runner.answers(rows, most), doing)

    def predictions(
        self, rows: Rows, continuations: Rows, look: Callable[[int, Tensor], T], doing: str, at_once: int = 0
    ) -> list[T]:
        """See Passes."""

        def read(runner: ModelRunner) -> dict[int, T]:
            size = runner.calibration.batch_size
            sized = runner.calibrated(batch_size=min(size, at_once or size))
            batches = sized.teacher_forced(rows, continuations)
            return {
                row: look(row, row_logits)
                for places, logits in batches
                for row, row_logits in zip(places, logits, strict=True)
            }

        by_row = self._fitting(read, doing)
        return [by_row[row] for row in range(len(rows))]

    def residuals(self, rows: Rows, look: Callable[[Iterator[Tensor]], T], doing: str) -> T:
        """See Passes."""
        return self._fitting(lambda runner: look(runner.residuals_of(rows)), doing)

    def next_tokens(self, rows: Rows, look: Callable[[Tensor], Sequence[T]], doing: str) -> list[T]:
        """See Passes."""
        return self._seen(ModelRunner.next_token_logits, rows, look, doing)

    def _seen(self, batches: Batches, rows: Rows, look: Callable[[Tensor], Sequence[T]], doing: str) -> list[T]:
        def read(runner: ModelRunner) -> dict[int, T]:
            return {
                row: seen
                for places, logits in batches(runner, rows)
                for row, seen in zip(places, look(logits), strict=True)
            }

        by_row = self._fitting(read, doing)
        return [by_row[row] for row in range(len(rows))]

    def _fitting(self, work: Callable[[ModelRunner], T], doing: str) -> T:
        result, self.runner = backing_off(self.runner, work, doing)
        return result


class OrdinarySideBySide:
    """See SideBySide: nothing is shared, nothing kept, and answers come whole."""

    shared_tokens = kept_bytes = 0
    whole = True
    interval = 1

    def __init__(self, runner: ModelRunner, forced: Rows, continuations: Rows, prompts: Sequence[Rows]) -> None:
        self.runner = runner
        self.prompts = prompts
        self.at_once = [runner.calibration.batch_size] * len(prompts)
        self._forced = forced
        self._continuations = continuations
        self._predicted_at_once = runner.calibration.batch_size

    def candidates(self) -> int:
        """See SideBySide: as many as fill the batch that was measured to be fastest."""
        most = max(map(len, self.prompts))
        return min(MOST_CANDIDATES, max(1, self.runner.calibration.batch_size // most))

    def prepare(self, candidates: int) -> None:
        """See SideBySide."""

    def applied(self, count: int, assign: AssignRows) -> Applied:
        """See SideBySide."""
        return Applied(assign)

    def original(self, rows: Sequence[int]) -> list[Tensor]:
        """See SideBySide."""
        continuations = [self._continuations[row] for row in rows]
        return self.runner.teacher_forced_batch([self._forced[row] for row in rows], continuations)

    def groups(self, candidates: Sequence[C]) -> Iterator[list[C]]:
        """See SideBySide: all of them."""
        yield list(candidates)

    def batches(self, running: Sequence[object], weights: Sequence[float]) -> Iterator[list[int]]:
        """See SideBySide: the longest first."""
        lengths = [
            len(row) + len(continuation) for row, continuation in zip(self._forced, self._continuations, strict=True)
        ]
        order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        while order:
            size = max(1, self._predicted_at_once // len(running))
            yield order[:size]
            order = order[size:]

    def predict(self, candidates: Sequence[Carrier], rows: Sequence[int], applied: Applied) -> list[Tensor]:
        """See SideBySide."""
        applied.assign([candidate.index for candidate in candidates for _ in rows])
        return self.original([row for _ in candidates for row in rows])

    def write(self, place: int, pairs: Sequence[tuple[C, int]], most: int, applied: Applied) -> "OrdinaryWritten":
        """See SideBySide: every candidate has one row in a batch at least."""
        answers: list[list[int]] = []
        for tokens in self._batched(place, pairs, applied):
            answers += self.runner.generate_batch(self.runner.pad(tokens, tuple(range(len(tokens)))), most).tolist()
        return OrdinaryWritten(answers, most)

    def following(
        self, place: int, pairs: Sequence[tuple[C, int]], look: Callable[[Tensor], Sequence[T]], applied: Applied
    ) -> list[T]:
        """See SideBySide."""
        batches = self._batched(place, pairs, applied)
        return [seen for tokens in batches for seen in look(self.runner.first_token_logits(tokens))]

    def _batched(self, place: int, pairs: Sequence[tuple[C, int]], applied: Applied) -> Iterator[Rows]:
        """Prompts of a batch, whose rows are given to their candidates."""
        size = max(self.at_once[place], len({candidate.index for candidate, _row in pairs}))
        batches = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        for batch in counted(batches, len(pairs), "answers", len):
            applied.assign([candidate.index for candidate, _row in batch])
            yield [self.prompts[place][row] for _candidate, row in batch]

    def relieve(self) -> bool:
        """See SideBySide: half as many rows are read at once."""
        relieved = max([self._predicted_at_once, *self.at_once]) > 1
        self._predicted_at_once = max(1, self._predicted_at_once // 2)
        self.at_once = halved(self.at_once, self.prompts)
        return relieved

    def rest(self) -> None:
        """See SideBySide."""

    def resume(self) -> None:
        """See SideBySide."""


def halved(at_once: Sequence[int], prompts: Sequence[Rows]) -> list[int]:
    """Half as many rows at once, counted from those that there are; at least one."""
    return [max(1, min(size, len(rows)) // 2) for size, rows in zip(at_once, prompts, strict=True)]


class OrdinaryWritten:
    """See Written: there is nothing left to write."""

    def __init__(self, answers: list[list[int]], most: int) -> None:
        self.order: Sequence[int] = range(len(answers))
        self.length = most
        self._answers = answers

    def step(self) -> None:
        """See Written."""

    def look(self) -> list[list[int]]:
        """See Written."""
        return self._answers

    def keep(self, places: Sequence[int]) -> None:
        """See Written."""
