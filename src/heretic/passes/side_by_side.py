"""Ragged passes over fixed rows that many candidates read side by side in every trial.

What all prompts begin with is read once a candidate, layers below the first edited one are kept across trials, and
answers leave their batch as they end.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, chain, pairwise
from typing import TypeVar

import torch
from torch import Tensor

from heretic.models.devices import free_memory, synchronize
from heretic.models.footprint import ANSWERING_ROWS, KEPT_SHARE, PASS_TOKENS
from heretic.models.memory import RanOut, attempt
from heretic.passes.kept_layers import KeptLayers
from heretic.passes.ordinary import MOST_CANDIDATES, halved
from heretic.passes.passes import Applied, AssignRows, C, Carrier, Rows
from heretic.passes.ragged import KeyValues, RaggedForward, RaggedState, split_shared_prefix
from heretic.passes.ragged_passes import Greedy, GreedyRows, last_of, look_interval
from heretic.passes.runner import ModelRunner

T = TypeVar("T")

BUSY_TOKENS = 384
"""Tokens of one pass that keep a device busy: more gain hardly anything by going through it together."""
DEVICE_ROWS = 4096
WORTHWHILE = 0.93
"""Doubling the candidates has to bring the seconds of one below this share."""
STEPS = 3
ROWS_LEFT = 0.6
"""Share of the rows that is decoded on average (measured on the real model of benchmarks/README.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """What ragged passes save; all of it, except where benchmarks switch parts off.

    Attributes:
        shared_prefix: What all prompts begin with is read once a candidate.
        kept_layers: Layers below the first edited one are kept across trials.
        packed_weights: A CPU orders the weights.
    """

    shared_prefix: bool = True
    kept_layers: bool = True
    packed_weights: bool = True


class RaggedSideBySide:
    """See SideBySide."""

    whole = False

    def __init__(
        self,
        runner: ModelRunner,
        forward: RaggedForward,
        forced: Rows,
        continuations: Rows,
        prompts: Sequence[Rows],
        savings: Savings,
    ) -> None:
        every = [*forced, *chain.from_iterable(prompts)]
        both = split_shared_prefix(every, every[0] if savings.shared_prefix else ())
        ends = accumulate(map(len, prompts), initial=len(forced))
        self.runner = runner
        self.shared_tokens = len(both.tokens)
        self.prompts: Sequence[Rows] = [both.rests[start:end] for start, end in pairwise(ends)]
        self.at_once: list[int] = []
        self.interval = look_interval(forward.loaded.device)
        # The last token of a continuation is only predicted, never read.
        rests = both.rests[: len(forced)]
        self._forced = [[*rest, *continuation[:-1]] for rest, continuation in zip(rests, continuations, strict=True)]
        self._wanted = [range(len(rest) - 1, len(row)) for rest, row in zip(rests, self._forced, strict=True)]
        self._tokens = both.tokens
        self._forward = forward
        self._chunk_tokens = PASS_TOKENS
        self._keeps = savings.kept_layers
        self._forced_tokens = sum(map(len, rests)) + sum(map(len, continuations))
        self._forced_layers = self._store(self._forced_tokens, with_key_values=False)
        self._prompt_layers: list[KeptLayers | None] = [None] * len(prompts)

    @cached_property
    def _prefix(self) -> KeyValues:
        """What all prompts begin with, read once by the original model, and not before anything is read behind it."""
        return self._forward.prefix(self._tokens, 1)

    @property
    def kept_bytes(self) -> int:
        """See SideBySide."""
        return sum(store.size for store in (self._forced_layers, *self._prompt_layers) if store is not None)

    def candidates(self) -> int:
        """See SideBySide: the power of two with the fewest seconds a candidate and decoded token.

        Rows leave as their verdicts come, so fewer are decoded on average than there are prompts.
        """
        device, prompts = self._forward.loaded.device, max(map(len, self.prompts))
        best, best_seconds = 1, float("inf")
        count = 1
        while count <= min(most_rows(device) // max(prompts, 1), MOST_CANDIDATES):
            rows = max(1, int(ROWS_LEFT * count * prompts))
            work = partial(_seconds_a_step, self._forward, self._prefix, rows)
            seconds = attempt(work, device, f"measuring {count} candidates at once")
            if isinstance(seconds, RanOut) or seconds / count > best_seconds * WORTHWHILE:
                break
            best, best_seconds = count, seconds / count
            count *= 2
        return best

    def prepare(self, candidates: int) -> None:
        """See SideBySide: lower layers of the prompts to answer are kept."""
        size, most = self.runner.calibration.batch_size, most_rows(self._forward.loaded.device)
        self.at_once = [max(size, min(candidates * len(rows), most)) for rows in self.prompts]
        self._keep_prompts()

    def _keep_prompts(self) -> None:
        self._prompt_layers = [self._store(sum(map(len, rows)), with_key_values=True) for rows in self.prompts]
        for rows, store in zip(self.prompts, self._prompt_layers, strict=True):
            if store is not None:
                _keep(self._forward, rows, self._prefix, store, self.runner.calibration.batch_size)

    def _store(self, tokens: int, with_key_values: bool) -> KeptLayers | None:
        if not self._keeps:
            return None
        # Keys and values are about as wide as what layers read, for the widest models (without grouped queries) twice.
        if with_key_values:
            tokens *= 3
        layout, loaded = self.runner.layout, self._forward.loaded
        width = layout.hidden_size * next(loaded.model.parameters()).element_size()
        budget = KEPT_SHARE * free_memory(loaded.device)
        stride = max(1, -(-tokens * width * layout.layer_count // max(int(budget), 1)))
        return KeptLayers(stride, with_key_values) if stride < layout.layer_count else None

    def applied(self, count: int, assign: AssignRows) -> Applied:
        """See SideBySide."""
        assign(range(count))
        return Applied(assign, self._forward.prefix(self._tokens, count))

    def original(self, rows: Sequence[int]) -> list[Tensor]:
        """See SideBySide; lower layers are kept."""
        tokens, wanted = [self._forced[row] for row in rows], [self._wanted[row] for row in rows]
        state = self._forward.start(self._prefix, [0] * len(rows))
        if self._forced_layers is None:
            return self._split(state.feed(tokens, wanted), rows)
        with self._forced_layers.recording(self._forward.layers, rows, list(map(len, tokens))):
            logits = state.feed(tokens, wanted)
        return self._split(logits, rows)

    def groups(self, candidates: Sequence[C]) -> Iterator[list[C]]:
        """See SideBySide."""
        return read_together(candidates, sum(map(len, self._forced)))

    def batches(self, running: Sequence[object], weights: Sequence[float]) -> Iterator[list[int]]:
        """See SideBySide: so many tokens, and what told most in earlier trials first, where a bound grows fastest."""
        order = sorted(range(len(self._forced)), key=lambda row: -len(self._forced[row]))
        chunks = []
        while order:
            size = max(1, self._chunk_tokens // (len(self._forced[order[0]]) * len(running)))
            chunks.append(order[:size])
            order = order[size:]
        yield from sorted(chunks, key=lambda rows: -sum(weights[row] for row in rows))

    def predict(self, candidates: Sequence[Carrier], rows: Sequence[int], applied: Applied) -> list[Tensor]:
        """See SideBySide."""
        every = [row for _ in candidates for row in rows]
        carriers = [candidate for candidate in candidates for _ in rows]
        tokens, wanted = [self._forced[row] for row in every], [self._wanted[row] for row in every]
        return self._split(self._read(carriers, every, tokens, wanted, self._forced_layers, applied)[1], every)

    def write(self, place: int, pairs: Sequence[tuple[C, int]], most: int, applied: Applied) -> "RaggedWritten":
        """See SideBySide. Prompts are read by as many candidates at once as pays, tokens are written by all of them."""
        greedy = Greedy(self.runner.suppressed_tokens)
        order: list[int] = []
        states: list[RaggedState] = []
        first: list[Tensor] = []
        for part, state, logits in self._begun(place, pairs, applied):
            states.append(state)
            first.append(greedy(logits))
            order += part
        carried = [pairs[index][0].index for index in order]
        return RaggedWritten(RaggedState.joined(states), torch.cat(first), greedy, order, carried, applied.assign)

    def following(
        self, place: int, pairs: Sequence[tuple[C, int]], look: Callable[[Tensor], Sequence[T]], applied: Applied
    ) -> list[T]:
        """See SideBySide."""
        seen: dict[int, T] = {}
        for part, _state, logits in self._begun(place, pairs, applied):
            seen.update(zip(part, look(logits), strict=True))
        return [seen[index] for index in range(len(pairs))]

    def _begun(
        self, place: int, pairs: Sequence[tuple[C, int]], applied: Applied
    ) -> Iterator[tuple[list[int], RaggedState, Tensor]]:
        """A behaviour's prompts, read by those candidates together that it pays for.

        Yields:
            Places among the pairs, their state behind their prompts, and the logits [B, V] of what follows.
        """
        prompts = self.prompts[place]
        blocks: dict[C, list[int]] = {}
        for index, (candidate, _row) in enumerate(pairs):
            blocks.setdefault(candidate, []).append(index)
        longest = max(sum(len(prompts[pairs[index][1]]) for index in block) for block in blocks.values())
        for together in read_together(list(blocks), longest):
            part = [index for candidate in together for index in blocks[candidate]]
            carriers, rows = [pairs[index][0] for index in part], [pairs[index][1] for index in part]
            tokens = [prompts[row] for row in rows]
            state, logits = self._read(carriers, rows, tokens, last_of(tokens), self._prompt_layers[place], applied)
            yield part, state, logits

    def _read(
        self,
        carriers: Sequence[Carrier],
        rows: Sequence[int],
        tokens: Rows,
        wanted: Sequence[Sequence[int]],
        stored: KeptLayers | None,
        applied: Applied,
    ) -> tuple[RaggedState, Tensor]:
        """Read prompts behind the shared prefix, each as its candidate; the logits of the wanted positions."""
        indices = [candidate.index for candidate in carriers]
        applied.assign(indices)
        state = self._forward.start(applied.prefix, indices)
        store = None
        if stored is not None:
            store = (stored, rows, stored.start_for(min(candidate.first_layer for candidate in carriers)))
        return state, state.feed(tokens, wanted, store)

    def _split(self, logits: Tensor, rows: Sequence[int]) -> list[Tensor]:
        if self.runner.suppressed_tokens:
            logits[:, self.runner.suppressed_tokens] = -torch.inf
        return list(torch.split(logits, [len(self._wanted[row]) for row in rows]))

    def relieve(self) -> bool:
        """See SideBySide: lower layers are no longer kept, passes get half as long, half as many rows are decoded."""
        halves = self._chunk_tokens // 2 >= min(map(len, self._forced))
        relieved = bool(self.kept_bytes) or halves or max(self.at_once, default=1) > 1
        self._keeps, self._forced_layers, self._prompt_layers = False, None, [None] * len(self.prompts)
        if halves:
            self._chunk_tokens //= 2
        self.at_once = halved(self.at_once, self.prompts)
        return relieved

    def rest(self) -> None:
        """See SideBySide: lower layers, and the order of the weights."""
        self._forced_layers, self._prompt_layers = None, [None] * len(self.prompts)
        if self._forward.packed is not None:
            self._forward.packed.give_back()

    def resume(self) -> None:
        """See SideBySide."""
        self._forced_layers = self._store(self._forced_tokens, with_key_values=False)
        self._keep_prompts()


class RaggedWritten(GreedyRows):
    """See Written: tokens stay on the device until somebody looks."""

    def __init__(
        self,
        state: RaggedState,
        first: Tensor,
        greedy: Greedy,
        order: Sequence[int],
        carried: Sequence[int],
        assign: AssignRows,
    ) -> None:
        super().__init__(state, first, greedy)
        self.order = order
        self._carried = carried
        self._assign = assign
        assign(carried)

    def keep(self, places: Sequence[int]) -> None:
        """See Written."""
        super().keep(places)
        self._carried = [self._carried[place] for place in places]
        self._assign(self._carried)


def read_together(candidates: Sequence[C], tokens: int) -> Iterator[list[C]]:
    """Split candidates into those whose prompts are best read in one pass.

    Side by side only as many as keep the device busy, and those that begin at layers nearby: a pass begins at the
    lowest first layer of its candidates.

    Args:
        candidates: Any.
        tokens: What each of them reads.
    """
    together = max(1, BUSY_TOKENS // max(tokens, 1))
    order = sorted(candidates, key=lambda candidate: candidate.first_layer)
    for start in range(0, len(order), together):
        yield order[start : start + together]


def most_rows(device: torch.device) -> int:
    """Rows that are decoded at once at most."""
    return ANSWERING_ROWS if device.type == "cpu" else DEVICE_ROWS


@torch.inference_mode()
def _keep(forward: RaggedForward, rests: Rows, prefix: KeyValues, store: KeptLayers, batch_size: int) -> None:
    for start in range(0, len(rests), batch_size):
        rows = range(start, min(start + batch_size, len(rests)))
        tokens = [rests[row] for row in rows]
        lengths = list(map(len, tokens))
        state = forward.start(prefix, [0] * len(tokens))
        with store.recording(forward.layers, rows, lengths):
            state.feed(tokens, [()] * len(tokens))
        store.keep_key_values(state.cache, rows, lengths, max(lengths))


@torch.inference_mode()
def _seconds_a_step(forward: RaggedForward, prefix: KeyValues, rows: int) -> float:
    device = forward.loaded.device
    state = forward.start(prefix, [0] * rows)
    # Which token is read does not matter. The first pass pays for set-up.
    state.feed([[0]] * rows, [[0]] * rows)
    synchronize(device)
    best = float("inf")
    for _ in range(STEPS):
        started = time.perf_counter()
        state.feed([[0]] * rows, [[0]] * rows)
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    # The fastest: other programs only ever make it slower.
    return best
