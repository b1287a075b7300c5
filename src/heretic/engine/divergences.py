"""The KL job: teacher-forced predictions over the baseline's evaluation prompts, candidate beside candidate."""

import math
from collections.abc import Sequence

import torch

from heretic.engine.candidate import Candidate
from heretic.evaluation.kl import KlEvaluator
from heretic.observability.steps import counted
from heretic.passes.passes import Applied, SideBySide
from heretic.results.gate import Gate
from heretic.results.score import Score


class DivergenceJob:
    """Compares with the original model; remembers which prompts diverged most in earlier trials.

    Attributes:
        kl: Compares, and keeps the original model's predictions.
    """

    def __init__(self, kl: KlEvaluator, passes: SideBySide) -> None:
        self.kl = kl
        self._passes = passes
        self._positions = sum(map(len, kl.continuations))
        self._diverged = [0.0] * len(kl.prompts)

    @torch.inference_mode()
    def remember(self) -> None:
        """Have the evaluator keep the original model's predictions, unless it does already.

        Raises:
            ModelError: They are not finite.
        """
        if self.kl.remembers:
            return
        batches = self._passes.batches([None], self._diverged)
        for rows in counted(batches, len(self._diverged), "prompts", len):
            for row, logits in zip(rows, self._passes.original(rows), strict=True):
                self.kl.keep(row, logits)

    def run(self, candidates: Sequence[Candidate], applied: Applied, gate: Gate) -> None:
        """Measure candidates until done or dominated.

        The gate closes on the divergence seen so far, as if all else were 0.
        """
        for together in self._passes.groups(candidates):
            batches = self._passes.batches(together, self._diverged)
            for rows in counted(batches, len(self._diverged), "prompts", len):
                self._measure(together, rows, applied)
                for candidate in together:
                    candidate.judge_divergence(self._positions, gate)
                together[:] = [candidate for candidate in together if candidate.running]
                if not together:
                    break

    def _measure(self, candidates: Sequence[Candidate], rows: Sequence[int], applied: Applied) -> None:
        logits = iter(self._passes.predict(candidates, rows, applied))
        for candidate in candidates:
            sums = candidate.add_divergences(rows, [self.kl.compare(row, next(logits)) for row in rows])
            for row, total in zip(rows, sums, strict=True):
                if math.isfinite(total):
                    self._diverged[row] += total

    def score(self, candidate: Candidate) -> Score:
        """The score of the positions that a candidate was measured on.

        Raises:
            TrialFailed: Its logits are not finite.
        """
        return self.kl.score_of(candidate.divergences)
