"""Both jobs by a model's own passes: candidates side by side in padded batches, nothing shared and nothing kept.

For what ragged passes cannot read: recurrent and linear-attention layers, vision-language models, models without token
positions, attention windows narrower than the answers. The gate looks after every batch.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch

from heretic.engine.answers import answers_score
from heretic.engine.candidate import AssignRows, Candidate
from heretic.evaluation.evaluator import AnswerEvaluator
from heretic.evaluation.evaluators.kl import BaseLogits, KlEvaluator
from heretic.observability.events import ResponseMeasured, emit
from heretic.passes.ragged import KeyValues
from heretic.results.gate import Gate
from heretic.results.score import Score


class PaddedDivergences:
    """The KL job; measures the unedited model when made."""

    kept_bytes = 0

    @torch.inference_mode()
    def __init__(self, evaluator: KlEvaluator) -> None:
        self._evaluator = evaluator
        self._runner = evaluator.runner
        self._encoded = [self._runner.encode(prompt) for prompt in evaluator.prompts]
        self._continuations = evaluator.continuations
        self._positions = sum(map(len, self._continuations))
        self._rows = self._runner.calibration.batch_size
        self._base = BaseLogits(self._continuations)
        for rows, logits in self._runner.teacher_forced(evaluator.prompts, self._continuations):
            for row, own in zip(rows, logits, strict=True):
                self._base.keep(row, own)

    @property
    def layer_count(self) -> int:
        """See Divergences."""
        return self._runner.layout.layer_count

    @property
    def device(self) -> torch.device:
        """See Divergences."""
        return self._runner.loaded.device

    def run(self, candidates: Sequence[Candidate], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        """See Divergences; there is no prefix."""
        lengths = [len(own) + len(forced) for own, forced in zip(self._encoded, self._continuations, strict=True)]
        order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        running = list(candidates)
        while order and running:
            size = max(1, self._rows // len(running))
            rows, order = order[:size], order[size:]
            self._measure(running, rows, assign)
            for candidate in running:
                candidate.judge_divergence(self._positions, gate)
            running = [candidate for candidate in running if candidate.running]

    def _measure(self, candidates: Sequence[Candidate], rows: Sequence[int], assign: AssignRows) -> None:
        assign([candidate.index for candidate in candidates for _ in rows])
        all_rows = [row for _ in candidates for row in rows]
        logits = self._runner.teacher_forced_batch(
            [self._encoded[row] for row in all_rows], [self._continuations[row] for row in all_rows]
        )
        compared = [self._base.compare(row, own) for row, own in zip(all_rows, logits, strict=True)]
        for place, candidate in enumerate(candidates):
            candidate.add_divergences(compared[place * len(rows) : (place + 1) * len(rows)])

    def score(self, candidate: Candidate) -> Score:
        """See Divergences."""
        divergences, agreements = zip(*candidate.divergences, strict=True)
        return self._evaluator.score_of(torch.cat(divergences), torch.cat(agreements))

    def relieve(self) -> bool:
        """See Divergences: the unedited model's logits go to host memory, and half as many rows are read at once."""
        moved, size = self._base.move_to_host(), self._rows
        self._rows = max(1, size // 2)
        return moved or size > 1


class PaddedAnswers:
    """The answer job; remembers how much earlier trials' answers counted."""

    kept_bytes = 0

    def __init__(self, place: int, evaluator: AnswerEvaluator) -> None:
        self._place = place
        self._evaluator = evaluator
        self._runner = evaluator.runner
        self._encoded = [self._runner.encode(prompt) for prompt in evaluator.prompts]
        self._rows = self._runner.calibration.batch_size
        self._counted: defaultdict[int, float] = defaultdict(float)

    def relieve(self) -> bool:
        """See Answers."""
        if self._rows == 1:
            return False
        self._rows = max(1, min(self._rows, len(self._encoded)) // 2)
        return True

    def run(self, candidates: Sequence[Candidate], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        """See Answers; there is no prefix."""
        # Where most trials' answers counted is where a count grows fastest; like lengths keep padding small.
        order = sorted(range(len(self._encoded)), key=lambda row: (-self._counted[row], len(self._encoded[row])))
        running = [candidate for candidate in candidates if candidate.running]
        while order and running:
            size = max(1, self._rows // len(running))
            rows, order = order[:size], order[size:]
            self._answer(running, rows, gate, assign)
            running = [candidate for candidate in running if candidate.running]

    def _answer(self, candidates: Sequence[Candidate], rows: Sequence[int], gate: Gate, assign: AssignRows) -> None:
        assign([candidate.index for candidate in candidates for _ in rows])
        pairs = [(candidate, row) for candidate in candidates for row in rows]
        batch = self._runner.pad([self._encoded[row] for _, row in pairs], tuple(row for _, row in pairs))
        found = self._runner.generate_batch(batch, self._evaluator.tokens).tolist()
        prompts = self._evaluator.prompts
        texts = [self._runner.response(ids).text for ids in found]
        evaluator = self._evaluator
        amounts = evaluator.judge_all([(prompts[row], text) for (_, row), text in zip(pairs, texts, strict=True)])
        for (candidate, row), text, amount in zip(pairs, texts, amounts, strict=True):
            self._counted[row] += amount
            emit(ResponseMeasured(candidate.number, prompts[row].user, text, evaluator.describe(amount)))
            candidate.count_answer(self._place, amount * evaluator.weight)
        for candidate in candidates:
            candidate.judge_answers(self._place, gate, evaluator)

    def score(self, candidate: Candidate) -> Score:
        """See Answers."""
        return answers_score(self._evaluator, candidate, self._place)
