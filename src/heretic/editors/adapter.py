"""The same edit as low-rank adapter factors, where it is low rank but for the norms of the weight's rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heretic.editors.editor import Editor
from heretic.edits.algebra import Edit, low_rank_factors
from heretic.edits.writer import WriterKind


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What an adapter makes of a weight W [D, m]: W + B A (LoRA), or that with its rows scaled to given norms (DoRA).

    Attributes:
        a: [k, m].
        b: [D, k].
        row_norms: [D], or None where the rows are left as they are.
    """

    a: Tensor
    b: Tensor
    row_norms: Tensor | None = None

    @property
    def rank(self) -> int:
        """The adapter's k."""
        return int(self.a.shape[0])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them."""
        return (self.a, self.b) if self.row_norms is None else (self.a, self.b, self.row_norms)


def adapter_obstacle(edits: Sequence[Edit]) -> str | None:
    """Why these edits cannot be saved as an adapter, in words; None where they can."""
    for edit in edits:
        if edit.writer.kind is WriterKind.FUSED_EXPERTS:
            return f"{edit.writer.path} holds all experts in one tensor, which an adapter file cannot address"
        if edit.offset is not None:
            return "an edit that adds a compliance direction needs biases; run with --use-caa false"
        if edit.input_scale is not None:
            return "an edit that keeps the norms of columns is not low rank; run with --normalization row or none"
        if edit.input_mask is not None and edit.output_scale is not None:
            return "an edit of chosen heads that keeps norms is not low rank; run with --normalization none"
    return None


def adapter_factors(edits: Sequence[Edit], editor: Editor) -> dict[str, Factors]:
    """What an adapter has to hold, by module path; modules that an edit leaves as they are are left out.

    Where an edit keeps the norms of rows, all get norms: PEFT takes an adapter with them for all of its modules.

    Args:
        edits: Of writers that are modules of their own.
        editor: Gives the original weights.

    Raises:
        ValueError: `adapter_obstacle` names a reason.
    """
    obstacle = adapter_obstacle(edits)
    if obstacle is not None:
        raise ValueError(obstacle)
    with_norms = any(edit.output_scale is not None for edit in edits)
    found = {}
    for edit in edits:
        weight = editor.pristine_weight(edit.writer)
        a, b = low_rank_factors(weight, edit)
        if bool(a.any()):
            found[edit.writer.path] = (
                _with_row_norms(weight.to(a), a, b, edit.output_scale) if with_norms else Factors(a, b)
            )
    return found


def _with_row_norms(weight: Tensor, a: Tensor, b: Tensor, output_scale: Tensor | None) -> Factors:
    norms = (weight + b @ a).norm(dim=-1)
    # PEFT divides by the norms before it multiplies: a row of zeros gets something to divide by.
    vanished = norms == 0
    b = torch.where(vanished[:, None], torch.ones_like(b), b)
    return Factors(a, b, norms if output_scale is None else norms * output_scale.to(norms))
