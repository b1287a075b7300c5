"""The answer job: greedy answers to one behaviour's evaluation prompts, each only as long as judging it needs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heretic.engine.candidate import AssignRows, Candidate
from heretic.engine.decoding import Decoding, Row
from heretic.engine.drafts import Drafts
from heretic.evaluation.evaluator import AnswerEvaluator
from heretic.observability.events import ResponseMeasured, emit
from heretic.passes.kept_layers import KeptLayers
from heretic.passes.ragged import KeyValues, RaggedForward
from heretic.passes.runner import Response
from heretic.results.gate import Gate
from heretic.results.score import Score

SPARE_PROMPTS = 4
"""Asked first in addition to twice as many prompts as refusals would decide."""
WORTHWHILE_SHARE = 0.5
"""A second round of decoding costs as many steps as the first, so only what saves more prompts is worth it."""


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What of the job's savings is on; benchmarks switch each off in turn.

    Attributes:
        rows: Rows decoded at once.
        verdict_interval: Tokens between two looks at the answers: each look waits for the device.
        early_verdicts: Whether a row ends when its verdict is certain.
        drafts: Whether earlier answers are checked before tokens are decoded one by one.
    """

    rows: int
    verdict_interval: int = 1
    early_verdicts: bool = True
    drafts: bool = False


class AnswerJob:
    """Fixed prompts; remembers how much earlier trials' answers to them counted."""

    def __init__(
        self,
        place: int,
        evaluator: AnswerEvaluator,
        forward: RaggedForward,
        rests: Sequence[Sequence[int]],
        kept: KeptLayers | None,
        options: AnswerOptions,
    ) -> None:
        self._place = place
        self._evaluator = evaluator
        self._forward = forward
        self._runner = evaluator.runner
        self._rests = rests
        self._kept = kept
        self._options = options
        self._rows = options.rows
        self._counted: defaultdict[int, float] = defaultdict(float)
        self._drafts = Drafts(len(rests), self._runner.end_tokens)
        if options.drafts:
            for prompt, response in enumerate(evaluator.base_responses):
                self._drafts.add(prompt, response.tokens)

    def relieve(self) -> bool:
        """See Answers: lower layers are no longer kept, and half as many rows are decoded at once."""
        if self._rows == 1 and self._kept is None:
            return False
        self._kept = None
        self._rows = max(1, min(self._rows, len(self._rests)) // 2)
        return True

    def run(self, candidates: Sequence[Candidate], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        """Answer the prompts with every candidate that is still running, until its answers are judged or decide.

        Args:
            candidates: Receive their amounts.
            prefix: Keys and values of the shared prefix, a row a candidate.
            gate: Closes on the answers counted so far and the whole divergence.
            assign: Tells the editor which row is whose.
        """
        # Where most trials' answers counted is where a count grows fastest; like lengths keep padding small.
        order = sorted(range(len(self._rests)), key=lambda prompt: (-self._counted[prompt], len(self._rests[prompt])))
        asked = {candidate.index: 0 for candidate in candidates}
        while True:
            running = [own for own in candidates if own.running and asked[own.index] < len(order)]
            if not running:
                return
            room = max(1, self._rows // len(running))
            rows = []
            for candidate in running:
                start = asked[candidate.index]
                count = min(room, self._first_share(candidate, gate) if start == 0 else len(order))
                rows += [Row(candidate, prompt) for prompt in order[start : start + count]]
                asked[candidate.index] += count
            self._answer(rows, prefix, gate, assign)
            self._judge_open(rows, gate)

    def _first_share(self, candidate: Candidate, gate: Gate) -> int:
        """How many prompts to ask first: where few answers would decide, more are asked only if these do not."""
        limit = gate.limit(candidate.values(), self._place)
        baseline = self._evaluator.baseline
        # Of amounts: so many answers as the unedited model's reach it.
        one = self._evaluator.weight * (1.0 if baseline.counts_answers else baseline.scale)
        share = 2 * limit / one + SPARE_PROMPTS
        return len(self._rests) if share > WORTHWHILE_SHARE * len(self._rests) else int(share)

    @property
    def kept_bytes(self) -> int:
        """Bytes of lower layers that are kept."""
        return 0 if self._kept is None else self._kept.size

    def score(self, candidate: Candidate) -> Score:
        """The score of the answers counted."""
        return answers_score(self._evaluator, candidate, self._place)

    def _answer(self, rows: list[Row], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        decoding = Decoding(self._forward, assign, self._runner.suppressed_tokens)
        decoding.read_prompts(rows, self._rests, prefix, self._kept)
        steps = 0
        while decoding.rows:
            steps += 1
            if decoding.length >= self._evaluator.tokens or steps % self._options.verdict_interval == 0:
                decoding.look()
                self._judge(decoding, gate)
                if not decoding.rows:
                    return
            if self._options.drafts:
                decoding.look()
                decoding.extend([self._draft(row) for row in decoding.rows])
            else:
                decoding.step()

    def _draft(self, row: Row) -> tuple[int, ...]:
        room = self._evaluator.tokens - len(row.tokens)
        return self._drafts.after(row.prompt, row.tokens)[: max(room - 1, 0)]

    def _judge(self, decoding: Decoding, gate: Gate) -> None:
        for row in decoding.rows:
            self._judge_row(row, gate)
        decoding.keep(
            [place for place, row in enumerate(decoding.rows) if row.response is None and row.candidate.running]
        )

    def _judge_row(self, row: Row, gate: Gate) -> None:
        response = self._runner.response(row.tokens[: self._evaluator.tokens])
        complete = len(row.tokens) >= self._evaluator.tokens or response.tokens[-1] in self._runner.end_tokens
        amount = None
        if complete or self._options.early_verdicts:
            amount = self._evaluator.judge(response.text, complete)
        if amount is None and not complete:
            return
        row.response = response
        if self._options.drafts:
            self._drafts.add(row.prompt, response.tokens)
        if amount is not None:
            self._count(row, response, amount)
            self._stop_decided(row.candidate, gate)

    def _judge_open(self, rows: Sequence[Row], gate: Gate) -> None:
        """Have the finished answers of all candidates that are not judged yet judged together.

        Until then what was counted is a lower bound, so the gate may have closed without them.
        """
        finished = [
            (row, row.response)
            for row in rows
            if row.response is not None and row.amount is None and row.candidate.running
        ]
        if not finished:
            return
        prompts = self._evaluator.prompts
        amounts = self._evaluator.judge_all([(prompts[row.prompt], response.text) for row, response in finished])
        for (row, response), amount in zip(finished, amounts, strict=True):
            self._count(row, response, amount)
        # Only now: a candidate whose answers are all there is measured to the end.
        for row, _response in finished:
            self._stop_decided(row.candidate, gate)

    def _stop_decided(self, candidate: Candidate, gate: Gate) -> None:
        candidate.judge_answers(self._place, gate, self._evaluator)

    def _count(self, row: Row, response: Response, amount: float) -> None:
        row.amount = amount
        # An amount is only known once it is final, so what is counted is a lower bound under either goal.
        self._counted[row.prompt] += amount
        prompt = self._evaluator.prompts[row.prompt]
        emit(ResponseMeasured(row.candidate.number, prompt.user, response.text, self._evaluator.describe(amount)))
        row.candidate.count_answer(self._place, amount * self._evaluator.weight)


def answers_score(evaluator: AnswerEvaluator, candidate: Candidate, place: int) -> Score:
    """The score of the answers counted; of a stopped candidate it also says out of how many."""
    score = evaluator.score_of(candidate.counted[place])
    if not candidate.dominated:
        return score
    return replace(score, details=replace(score.answers, answered=candidate.answered[place]))
