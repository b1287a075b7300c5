"""The refusal job: greedy answers to the target's evaluation prompts, each only as long as its verdict needs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from heretic.engine.candidate import AssignRows, Candidate
from heretic.engine.drafts import Drafts
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.evaluation.score import Score
from heretic.models.kept_layers import KeptLayers
from heretic.models.ragged import KeyValues, RaggedForward, RaggedState
from heretic.models.runner import Response
from heretic.observability.events import ResponseMeasured, emit
from heretic.search.gates import Gate

SPARE_PROMPTS = 4
"""Asked first in addition to twice as many prompts as refusals would decide."""
WORTHWHILE_SHARE = 0.5
"""A second round of decoding costs as many steps as the first, so only what saves more prompts is worth it."""


@dataclass(slots=True, eq=False)
class _Row:
    """One answer being written: prompt `prompt`, edited as `candidate`."""

    candidate: Candidate
    prompt: int
    tokens: list[int] = field(default_factory=list)
    response: Response | None = None


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
    """Fixed prompts; remembers answers of earlier trials, and which of them counted."""

    def __init__(
        self,
        evaluator: MarkerEvaluator,
        forward: RaggedForward,
        rests: Sequence[Sequence[int]],
        kept: KeptLayers | None,
        options: AnswerOptions,
    ) -> None:
        self._evaluator = evaluator
        self._forward = forward
        self._runner = evaluator.runner
        self._rests = rests
        self._kept = kept
        self._options = options
        self._rows = options.rows
        self._counted: Counter[int] = Counter()
        self._drafts = Drafts(len(rests), self._runner.end_tokens)
        if options.drafts:
            for prompt, response in enumerate(evaluator.base_responses):
                self._drafts.add(prompt, response.tokens)

    def halve_rows(self) -> bool:
        """Decode half as many rows at once from now on; False where it is one already."""
        if self._rows == 1:
            return False
        self._rows = max(1, min(self._rows, len(self._rests)) // 2)
        return True

    def run(self, candidates: Sequence[Candidate], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        """Answer the prompts with every candidate that is still running, until its verdicts are known or decide.

        Args:
            candidates: Receive their count.
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
                rows += [_Row(candidate, prompt) for prompt in order[start : start + count]]
                asked[candidate.index] += count
            self._answer(rows, prefix, gate, assign)

    def _first_share(self, candidate: Candidate, gate: Gate) -> int:
        """How many prompts to ask first: where few refusals would decide, more are asked only if these do not."""
        limit = gate.limit(candidate.mean_divergence)
        share = 2 * limit + SPARE_PROMPTS
        return len(self._rests) if share > WORTHWHILE_SHARE * len(self._rests) else int(share)

    @property
    def kept_bytes(self) -> int:
        """Bytes of lower layers that are kept."""
        return 0 if self._kept is None else self._kept.size

    def score(self, candidate: Candidate) -> Score:
        """The score of the answers counted; of a stopped candidate it also says out of how many."""
        score = self._evaluator.score_of(float(candidate.refusals))
        if not candidate.dominated:
            return score
        return replace(score, details={**score.details, "answered": candidate.answered})

    def _answer(self, rows: list[_Row], prefix: KeyValues, gate: Gate, assign: AssignRows) -> None:
        decoding = _Decoding(self._forward, rows, prefix, assign, self._runner.suppressed_tokens)
        first = min(row.candidate.first_layer for row in rows)
        rests = [self._rests[row.prompt] for row in rows]
        kept = None
        if self._kept is not None:
            kept = (self._kept, [row.prompt for row in rows], self._kept.start_for(first))
        decoding.read_prompts(rests, kept)
        steps = 0
        while decoding.rows:
            steps += 1
            full = all(len(row.tokens) >= self._evaluator.tokens for row in decoding.rows)
            if full or steps % self._options.verdict_interval == 0:
                self._judge(decoding, gate)
                if not decoding.rows:
                    return
            room = [self._evaluator.tokens - len(row.tokens) for row in decoding.rows]
            if self._options.drafts:
                drafts = [self._drafts.after(row.prompt, row.tokens) for row in decoding.rows]
                drafts = [draft[: max(own - 1, 0)] for draft, own in zip(drafts, room, strict=True)]
            else:
                drafts = [()] * len(decoding.rows)
            decoding.extend(drafts)

    def _judge(self, decoding: "_Decoding", gate: Gate) -> None:
        for row in decoding.rows:
            self._judge_row(row, gate)
        decoding.keep(
            [place for place, row in enumerate(decoding.rows) if row.response is None and row.candidate.running]
        )

    def _judge_row(self, row: _Row, gate: Gate) -> None:
        response = self._runner.response(row.tokens[: self._evaluator.tokens])
        complete = len(row.tokens) >= self._evaluator.tokens or response.tokens[-1] in self._runner.end_tokens
        verdict = None
        if complete or self._options.early_verdicts:
            verdict = self._evaluator.verdict(response.text, complete)
        if verdict is None:
            return
        row.response = response
        candidate = row.candidate
        candidate.answered += 1
        # A verdict is only given once it is final, so what is counted is a lower bound under either goal.
        counted = self._evaluator.counts(verdict)
        candidate.refusals += counted
        self._counted[row.prompt] += counted
        if self._options.drafts:
            self._drafts.add(row.prompt, response.tokens)
        prompt = self._evaluator.prompts[row.prompt]
        emit(ResponseMeasured(candidate.number, prompt.user, response.text, verdict))
        kl = candidate.mean_divergence
        if not candidate.running or candidate.answered == len(self._rests):
            return
        so_far = f"with {candidate.refusals} {self._evaluator.baseline.label} so far it is worse than"
        if gate.closes(candidate.refusals, kl):
            candidate.dominated = f"{so_far} a finished trial"
        elif gate.prunes(candidate.refusals, kl):
            candidate.dominated, candidate.pruned = f"{so_far} the best trial", True


class _Decoding:
    """Rows being decoded together."""

    def __init__(
        self,
        forward: RaggedForward,
        rows: list[_Row],
        prefix: KeyValues,
        assign: AssignRows,
        suppressed: Sequence[int],
    ) -> None:
        self.rows = rows
        self._assign = assign
        self._suppressed = list(suppressed)
        self._state: RaggedState = forward.start(prefix, [row.candidate.index for row in rows])
        assign([row.candidate.index for row in rows])

    def read_prompts(self, rests: Sequence[Sequence[int]], kept: tuple[KeptLayers, Sequence[int], int] | None) -> None:
        """Read what stands behind the shared prefix; every row gets its first token."""
        logits = self._state.feed(rests, [[len(rest) - 1] for rest in rests], kept)
        for row, token in zip(self.rows, self._greedy(logits), strict=True):
            row.tokens.append(token)

    def extend(self, drafts: Sequence[Sequence[int]]) -> None:
        """Read each row's last token and its draft; accept of the draft what is greedy, and one token more."""
        fed = [[row.tokens[-1], *draft] for row, draft in zip(self.rows, drafts, strict=True)]
        found = iter(self._greedy(self._state.feed(fed, [range(len(own)) for own in fed])))
        accepted = []
        for row, draft in zip(self.rows, drafts, strict=True):
            greedy = [next(found) for _ in range(len(draft) + 1)]
            count = next((place for place, token in enumerate(draft) if greedy[place] != token), len(draft))
            row.tokens += greedy[: count + 1]
            accepted.append(count + 1)
        if any(drafts):
            self._state.accept(accepted)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows only."""
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        if self.rows:
            self._state.select(places)
            self._assign([row.candidate.index for row in self.rows])

    def _greedy(self, logits: Tensor) -> list[int]:
        if self._suppressed:
            logits[:, self._suppressed] = -float("inf")
        tokens: list[int] = logits.argmax(-1).tolist()
        return tokens
