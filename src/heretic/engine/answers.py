"""The answer job: greedy answers to one behaviour's evaluation prompts, each only as long as judging it needs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from heretic.common.errors import TrialFailed
from heretic.engine.candidate import Candidate
from heretic.evaluation.evaluator import Evaluator
from heretic.evaluation.yes_no import YesNo
from heretic.observability.events import ResponseMeasured, emit
from heretic.passes.passes import Applied, SideBySide
from heretic.passes.runner import Response
from heretic.results import reading
from heretic.results.gate import Gate
from heretic.results.score import Score, checked

SPARE_PROMPTS = 4
"""Asked first in addition to twice as many prompts as refusals would decide."""
WORTHWHILE_SHARE = 0.5
"""A second round of decoding costs as many steps as the first, so only what saves more prompts is worth it."""


@dataclass(slots=True, eq=False)
class Row:
    """One answer being written: prompt `prompt`, edited as `candidate`.

    `response` is there when it is finished, `amount` when it is judged.
    """

    candidate: Candidate
    prompt: int
    tokens: list[int] = field(default_factory=list)
    response: Response | None = None
    amount: float | None = None


class AnswerJob:
    """Has prompts answered and judged; remembers how much earlier trials' answers to them counted."""

    def __init__(
        self, place: int, evaluator: Evaluator, passes: SideBySide, early_verdicts: bool = True, gated: bool = True
    ) -> None:
        """Prepare to ask.

        Args:
            place: Of the behaviour.
            evaluator: Judges.
            passes: Read its prompts.
            early_verdicts: Whether a row ends when its verdict is certain.
            gated: Whether a gate may close before all is asked. Where it cannot, prompts of like length are read
                together, and all answers are judged together.
        """
        self._place = place
        self._evaluator = evaluator
        self._passes = passes
        self._lengths = list(map(len, passes.prompts[place]))
        self._early = early_verdicts
        self._gated = gated
        self._yes_no = YesNo(passes.runner) if evaluator.predicted else None
        self._counted: defaultdict[int, float] = defaultdict(float)

    @property
    def allowed(self) -> int | None:
        """How many answers that have to stay what they are may be lost; None where nothing bounds what is counted."""
        keep = self._evaluator.keep
        return None if keep is None else keep.allowed

    def score(self, candidate: Candidate) -> Score:
        """The score of the answers counted; of a stopped candidate it also says out of how many.

        Raises:
            ValueError: What the evaluator returned is no score.
        """
        score = checked(self._evaluator.score_of(candidate.counted[self._place]))
        if not candidate.dominated:
            return score
        return replace(score, details=replace(score.answers, answered=candidate.answered[self._place]))

    def run(self, candidates: Sequence[Candidate], applied: Applied, gate: Gate) -> None:
        """Answer the prompts with every candidate that is still running, until its answers are judged or decide."""
        lengths = self._lengths
        if not self._gated:
            rows = [
                Row(candidate, prompt)
                for candidate in candidates
                if candidate.running
                for prompt in range(len(lengths))
            ]
            ordered = sorted(rows, key=lambda row: -lengths[row.prompt])
            # What comes whole is split by whoever writes it.
            size = max(1, len(rows) if self._passes.whole else self._passes.at_once[self._place])
            for start in range(0, len(rows), size):
                self._write(ordered[start : start + size], applied, gate)
            self._judge_open(rows, gate)
            for candidate in {row.candidate for row in rows}:
                # As the baseline is added up: with weights inside, the sum may differ in its last digit.
                amounts = [row.amount for row in rows if row.candidate is candidate and row.amount is not None]
                candidate.counted[self._place] = sum(amounts) * self._evaluator.weight
            return
        # Where most trials' answers counted is where a count grows fastest; like lengths keep padding small.
        order = sorted(range(len(lengths)), key=lambda prompt: (-self._counted[prompt], lengths[prompt]))
        begun = {candidate.index: 0 for candidate in candidates}
        while True:
            running = [
                candidate for candidate in candidates if candidate.running and begun[candidate.index] < len(order)
            ]
            if not running:
                return
            room = max(1, self._passes.at_once[self._place] // len(running))
            rows = []
            for candidate in running:
                start = begun[candidate.index]
                count = min(room, self._first_share(candidate, gate) if start == 0 else len(order))
                rows += [Row(candidate, prompt) for prompt in order[start : start + count]]
                begun[candidate.index] += count
            self._write(rows, applied, gate)
            self._judge_open(rows, gate)

    def _first_share(self, candidate: Candidate, gate: Gate) -> int:
        """How many prompts to ask first: where few answers would decide, more are asked only if these do not."""
        prompts = len(self._lengths)
        if self._passes.whole:
            return prompts
        limit = candidate.limit(self._place, gate)
        baseline = self._evaluator.baseline
        # Of amounts: so many answers as the original model's reach it.
        one = self._evaluator.weight * (1.0 if baseline.counts_answers else baseline.scale)
        share = 2 * limit / one + SPARE_PROMPTS
        return prompts if share > WORTHWHILE_SHARE * prompts else int(share)

    def _write(self, rows: Sequence[Row], applied: Applied, gate: Gate) -> None:
        most = self._evaluator.tokens
        pairs = [(row.candidate, row.prompt) for row in rows]
        if self._yes_no is not None:
            told = self._passes.following(self._place, pairs, self._yes_no.told, applied)
            for row, response in zip(rows, told, strict=True):
                row.response = response
            # Judged together, like all that comes together.
            return
        written = self._passes.write(self._place, pairs, most, applied)
        running = [rows[place] for place in written.order]
        steps = 0
        while running:
            steps += 1
            if written.length >= most or steps % self._passes.interval == 0:
                for row, tokens in zip(running, written.look(), strict=True):
                    row.tokens += tokens
                for row in running:
                    self._judge_row(row, gate)
                places = [place for place, row in enumerate(running) if row.response is None and row.candidate.running]
                if not places:
                    return
                if len(places) < len(running):
                    running = [running[place] for place in places]
                    written.keep(places)
            written.step()

    def _judge_row(self, row: Row, gate: Gate) -> None:
        most, runner = self._evaluator.tokens, self._passes.runner
        response = runner.response(row.tokens[:most])
        complete = self._passes.whole or len(row.tokens) >= most or response.tokens[-1] in runner.end_tokens
        amount = None
        # What comes whole comes together, and is judged together.
        if not self._passes.whole and (complete or self._early):
            amount = self._evaluator.judge(response.text, complete)
        if amount is None and not complete:
            return
        row.response = response
        if amount is not None:
            self._count(row, response, amount)
            self._stop_decided([row], gate)

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
        self._stop_decided((row for row, _response in finished), gate)

    def _stop_decided(self, rows: Iterable[Row], gate: Gate) -> None:
        for row in rows:
            row.candidate.judge_answers(self._place, gate, self._evaluator)

    def _count(self, row: Row, response: Response, amount: Any) -> None:
        amount = reading.plain(amount)
        try:
            row.amount = amount = reading.number(
                int(amount) if isinstance(amount, bool) else amount, "an answer's amount", least=0.0
            )
        except ValueError as error:
            raise TrialFailed(f"what was measured cannot be used: {error}") from error
        # An amount is only known once it is final, so what is counted is a lower bound under either goal.
        self._counted[row.prompt] += amount
        prompt = self._evaluator.prompts[row.prompt]
        emit(ResponseMeasured(row.candidate.number, prompt.user, response.text, self._evaluator.describe(amount)))
        row.candidate.count_answer(self._place, amount * self._evaluator.weight)
