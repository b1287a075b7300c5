"""Greedy decoding of rows of several candidates: prompts read group by group, tokens written side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch

from heretic.engine.candidate import AssignRows, Candidate, read_together
from heretic.passes.greedy_rows import Greedy, GreedyRows
from heretic.passes.kept_layers import KeptLayers
from heretic.passes.ragged import KeyValues, RaggedForward, RaggedState
from heretic.passes.runner import Response


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


class Decoding:
    """Rows being decoded together."""

    def __init__(self, forward: RaggedForward, assign: AssignRows, suppressed: Sequence[int]) -> None:
        self.rows: list[Row] = []
        self._forward = forward
        self._assign = assign
        self._greedy = Greedy(suppressed)

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
            found.append(self._greedy(state.feed(tokens, [[len(own) - 1] for own in tokens], store)))
            states.append(state)
            self.rows += part
        self._written = GreedyRows(RaggedState.joined(states), torch.cat(found), self._greedy)
        self._assign_rows(self.rows)

    @property
    def length(self) -> int:
        """Tokens that every row has at least, those included that are on the device only."""
        return min(len(row.tokens) for row in self.rows) + self._written.unread

    def step(self) -> None:
        """One token more for every row, left on the device; not to be mixed with `extend`."""
        self._written.step()

    def look(self) -> None:
        """Give the rows their tokens, which waits for the device."""
        if self._written.unread:
            for row, own in zip(self.rows, self._written.look(), strict=True):
                row.tokens += own

    def extend(self, drafts: Sequence[Sequence[int]]) -> None:
        """Read each row's last token and its draft; accept of the draft what is greedy, and one token more."""
        fed = [[row.tokens[-1], *draft] for row, draft in zip(self.rows, drafts, strict=True)]
        found = iter(self._greedy(self._written.state.feed(fed, [range(len(own)) for own in fed])).tolist())
        accepted = []
        for row, draft in zip(self.rows, drafts, strict=True):
            greedy = [next(found) for _ in range(len(draft) + 1)]
            count = next((place for place, token in enumerate(draft) if greedy[place] != token), len(draft))
            row.tokens += greedy[: count + 1]
            accepted.append(count + 1)
        if any(drafts):
            self._written.state.accept(accepted)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows only; `look` comes first."""
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        if self.rows:
            self._written.keep(places)
            self._assign_rows(self.rows)

    def _assign_rows(self, rows: Sequence[Row]) -> None:
        self._assign([row.candidate.index for row in rows])
