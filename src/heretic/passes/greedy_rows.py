"""Greedy continuations that are written side by side, and taken from the device only when somebody looks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from heretic.passes.divergence import most_likely
from heretic.passes.ragged import RaggedState

DEVICE_INTERVAL = 8
"""Steps between two looks on a device: each look waits for it, each step too many is computed in vain."""


def look_interval(device: torch.device) -> int:
    """Steps between two looks at what is written; on the host looking costs nothing."""
    return 1 if device.type == "cpu" else DEVICE_INTERVAL


class Greedy:
    """Chooses the most likely token that is not suppressed."""

    def __init__(self, suppressed: Sequence[int]) -> None:
        self._suppressed = torch.tensor(list(suppressed), dtype=torch.long)

    def __call__(self, logits: Tensor) -> Tensor:
        """[B, V] logits, which are changed, to [B] tokens."""
        if len(self._suppressed):
            # Moved once, not with every token.
            self._suppressed = self._suppressed.to(logits.device)
            logits.index_fill_(1, self._suppressed, -torch.inf)
        return most_likely(logits)


class GreedyRows:
    """Rows of a state that are continued token by token."""

    def __init__(self, state: RaggedState, first: Tensor, greedy: Greedy) -> None:
        """Go on behind what was read.

        Args:
            state: Rows whose prompts are read.
            first: [B] their first tokens.
            greedy: Chooses the further ones.
        """
        self.state = state
        self._greedy = greedy
        self._last = first
        self._unread = [first]

    @property
    def unread(self) -> int:
        """Tokens of every row that are on the device only."""
        return len(self._unread)

    def step(self) -> None:
        """One token more for every row, left on the device."""
        self._last = self._greedy(self.state.step(self._last))
        self._unread.append(self._last)

    def look(self) -> list[list[int]]:
        """What was added to every row since the last look, which waits for the device."""
        unread, self._unread = self._unread, []
        return torch.stack(unread, dim=1).tolist() if unread else [[] for _ in self._last]

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows only, in this order; `look` comes first."""
        self.state.select(places)
        self._last = self._last[torch.tensor(list(places), device=self._last.device)]
