"""Greedy decoding of rows of several candidates: prompts read group by group, tokens written side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from heretic.engine.candidate import AssignRows, Candidate, read_together
from heretic.evaluation.divergence import most_likely
from heretic.models.kept_layers import KeptLayers
from heretic.models.ragged import KeyValues, RaggedForward, RaggedState
from heretic.models.runner import Response


@dataclass(slots=True, eq=False)
class Row:
    """One answer being written: prompt `prompt`, edited as `candidate`."""

    candidate: Candidate
    prompt: int
    tokens: list[int] = field(default_factory=list)
    response: Response | None = None


class Decoding:
    """Rows being decoded together."""

    def __init__(self, forward: RaggedForward, assign: AssignRows, suppressed: Sequence[int]) -> None:
        self.rows: list[Row] = []
        self._forward = forward
        self._assign = assign
        self._suppressed = list(suppressed)

    def read_prompts(
        self, rows: Sequence[Row], rests: Sequence[Sequence[int]], prefix: KeyValues, kept: KeptLayers | None
    ) -> None:
        """Read what stands behind the shared prefix; every row gets its first token.

        Args:
            rows: Those to decode, block by block a candidate.
            rests: Tokens of every prompt behind the prefix.
            prefix: Keys and values of the shared prefix, a row a candidate.
            kept: Lower layers of the prompts, or None.
        """
        blocks = {candidate: list(own) for candidate, own in groupby(rows, key=lambda row: row.candidate)}
        longest = max(sum(len(rests[row.prompt]) for row in own) for own in blocks.values())
        states, found = [], []
        for together in read_together(list(blocks), longest):
            part = [row for candidate in together for row in blocks[candidate]]
            self._assign_rows(part)
            state = self._forward.start(prefix, [row.candidate.index for row in part])
            store = None
            if kept is not None:
                first = kept.start_for(min(candidate.first_layer for candidate in together))
                store = (kept, [row.prompt for row in part], first)
            tokens = [rests[row.prompt] for row in part]
            found += self._greedy(state.feed(tokens, [[len(own) - 1] for own in tokens], store))
            states.append(state)
            self.rows += part
        self._state = RaggedState.joined(states)
        self._assign_rows(self.rows)
        for row, token in zip(self.rows, found, strict=True):
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
            self._assign_rows(self.rows)

    def _assign_rows(self, rows: Sequence[Row]) -> None:
        self._assign([row.candidate.index for row in rows])

    def _greedy(self, logits: Tensor) -> list[int]:
        if self._suppressed:
            logits[:, self._suppressed] = -torch.inf
        tokens: list[int] = most_likely(logits).tolist()
        return tokens
