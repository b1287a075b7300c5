"""Editor: what the search, the picker and the exporters need of an engine, whichever way it applies edits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor

from heretic.edits.algebra import Edit
from heretic.edits.writer import ResidualWriter


class Editor(Protocol):
    """Applies edits to one model and takes them back."""

    def pristine_weight(self, writer: ResidualWriter) -> Tensor:
        """The original weight as [D, m] or [E, D, m], whatever is applied now."""

    def apply(self, edits: Sequence[Edit]) -> None:
        """Make the model behave as edited by exactly these edits."""

    def apply_candidates(self, candidates: Sequence[Sequence[Edit]]) -> None:
        """Make rows of one batch behave as edited by different edits, as many as the editor can tell apart."""

    def assign_rows(self, candidates: Sequence[int]) -> None:
        """Say which candidate each row of the next forward passes carries: [B] places in what was applied."""

    def restore(self) -> None:
        """Make the model behave as unedited, bit for bit."""


@contextmanager
def applied(editor: Editor, edits: Sequence[Edit]) -> Iterator[None]:
    """Edits for the duration of a with-block."""
    try:
        editor.apply(edits)
        yield
    finally:
        editor.restore()
