"""The KL job: teacher-forced passes over the baseline's evaluation prompts, candidate beside candidate."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from heretic.engine.candidate import AssignRows, Candidate, read_together
from heretic.evaluation.evaluators.kl import BaseLogits, KlEvaluator
from heretic.passes.kept_layers import KeptLayers
from heretic.passes.ragged import KeyValues, RaggedForward
from heretic.results.gate import Gate
from heretic.results.score import Score

CHUNK_TOKENS = 1024
"""Tokens of one pass: enough to keep a device busy, few enough to stop a bad candidate early."""


class DivergenceJob:
    """Fixed rows, prompt rest and continuation; measured on the unedited model when made."""

    @torch.inference_mode()
    def __init__(
        self,
        evaluator: KlEvaluator,
        forward: RaggedForward,
        rests: Sequence[Sequence[int]],
        prefix: KeyValues,
        kept: KeptLayers | None,
    ) -> None:
        """Measure the unedited model, with its lower layers kept where there is a store for them.

        Args:
            evaluator: What makes a score of divergences.
            forward: The model.
            rests: Tokens of every prompt behind the shared prefix.
            prefix: The unedited model's keys and values of that prefix, one row.
            kept: Store for lower layers, or None to do without.
        """
        self._evaluator = evaluator
        self._forward = forward
        self._suppressed = evaluator.runner.suppressed_tokens
        continuations = evaluator.continuations
        # The last token of a continuation is only predicted, never read.
        self._tokens = [[*rest, *own[:-1]] for rest, own in zip(rests, continuations, strict=True)]
        self._wanted = [range(len(rest) - 1, len(row)) for rest, row in zip(rests, self._tokens, strict=True)]
        self._positions = sum(map(len, continuations))
        self._base = BaseLogits(continuations)
        self._kept = None
        self._chunk_tokens = CHUNK_TOKENS
        self._divergence: defaultdict[int, float] = defaultdict(float)
        for rows in self._chunks(1):
            state = forward.start(prefix, [0] * len(rows))
            tokens, wanted = [self._tokens[row] for row in rows], [self._wanted[row] for row in rows]
            if kept is None:
                logits = state.feed(tokens, wanted)
            else:
                with kept.recording(forward.layers, rows, list(map(len, tokens))):
                    logits = state.feed(tokens, wanted)
            for row, own in zip(rows, self._split(logits, rows), strict=True):
                self._base.keep(row, own)
        self._kept = kept

    @property
    def layer_count(self) -> int:
        """Decoder layers of the model."""
        return len(self._forward.layers)

    @property
    def device(self) -> torch.device:
        """Where the model takes its tokens."""
        return self._forward.loaded.device

    def run(self, candidates: Sequence[Candidate], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        """Measure candidates until done or dominated.

        Args:
            candidates: Receive divergences.
            prefix: Keys and values of the shared prefix, a row a candidate.
            gate: Closes on the divergence seen so far, as if all else were 0.
            assign: Tells the editor which row is whose.
        """
        for together in read_together(candidates, sum(map(len, self._tokens))):
            self._run_together(together, prefix, gate, assign)

    def _run_together(self, running: list[Candidate], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        # Rows that diverged most in earlier trials first: the bound grows fastest there.
        chunks = sorted(self._chunks(len(running)), key=lambda rows: -sum(self._divergence[row] for row in rows))
        for rows in chunks:
            self._measure(running, rows, prefix, assign)
            for candidate in running:
                candidate.judge_divergence(self._positions, gate)
            running = [candidate for candidate in running if candidate.running]
            if not running:
                return

    @property
    def kept_bytes(self) -> int:
        """Bytes of lower layers that are kept."""
        return 0 if self._kept is None else self._kept.size

    def score(self, candidate: Candidate) -> Score:
        """The score of the positions that a candidate was measured on.

        Raises:
            TrialFailed: Its logits are not finite.
        """
        divergences, agreements = zip(*candidate.divergences, strict=True)
        return self._evaluator.score_of(torch.cat(divergences), torch.cat(agreements))

    def relieve(self) -> bool:
        """See Divergences: lower layers are no longer kept, logits go to host memory, and passes get half as long."""
        shortest = min(map(len, self._tokens))
        can_halve = self._chunk_tokens // 2 >= shortest
        relieved = self._base.move_to_host() or self._kept is not None or can_halve
        self._kept = None
        if can_halve:
            self._chunk_tokens //= 2
        return relieved

    def _measure(
        self, candidates: Sequence[Candidate], rows: Sequence[int], prefix: KeyValues, assign: AssignRows
    ) -> None:
        groups = [candidate.index for candidate in candidates for _ in rows]
        all_rows = [row for _ in candidates for row in rows]
        assign(groups)
        state = self._forward.start(prefix, groups)
        kept = None
        if self._kept is not None:
            first = self._kept.start_for(min(candidate.first_layer for candidate in candidates))
            kept = (self._kept, all_rows, first)
        logits = state.feed([self._tokens[row] for row in all_rows], [self._wanted[row] for row in all_rows], kept)
        compared = [
            self._base.compare(row, own) for row, own in zip(all_rows, self._split(logits, all_rows), strict=True)
        ]
        for place, candidate in enumerate(candidates):
            own = compared[place * len(rows) : (place + 1) * len(rows)]
            sums = candidate.add_divergences(own)
            for row, total in zip(rows, sums, strict=True):
                if math.isfinite(total):
                    self._divergence[row] += total

    def _split(self, logits: Tensor, rows: Sequence[int]) -> tuple[Tensor, ...]:
        if self._suppressed:
            logits[:, self._suppressed] = -torch.inf
        return torch.split(logits, [len(self._wanted[row]) for row in rows])

    def _chunks(self, candidates: int) -> Iterator[list[int]]:
        order = sorted(range(len(self._tokens)), key=lambda row: -len(self._tokens[row]))
        while order:
            size = max(1, self._chunk_tokens // (len(self._tokens[order[0]]) * candidates))
            yield order[:size]
            order = order[size:]
