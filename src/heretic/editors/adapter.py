"""The same edit as low-rank adapter factors, where it is low rank."""

from collections.abc import Sequence

from torch import Tensor

from heretic.editors.editor import Editor
from heretic.edits.algebra import Edit, low_rank_factors
from heretic.edits.writer import WriterKind


def adapter_obstacle(edits: Sequence[Edit]) -> str | None:
    """Why these edits cannot be saved as an adapter, in words; None where they can."""
    for edit in edits:
        if edit.writer.kind is WriterKind.FUSED_EXPERTS:
            return f"{edit.writer.path} holds all experts in one tensor, which an adapter file cannot address"
        if edit.offset is not None:
            return "an edit that adds a compliance direction needs biases; run with --use-caa false"
        if not edit.is_low_rank:
            return "an edit that keeps weight norms is not low rank; run with --normalization none"
    return None


def adapter_factors(edits: Sequence[Edit], editor: Editor) -> dict[str, tuple[Tensor, Tensor]]:
    """LoRA factors by module path, so that W' = W + B A.

    Args:
        edits: Low-rank edits of writers that are modules of their own.
        editor: Gives the original weights.

    Returns:
        Module path -> (A [k, m], B [D, k]).

    Raises:
        ValueError: `adapter_obstacle` names a reason.
    """
    obstacle = adapter_obstacle(edits)
    if obstacle is not None:
        raise ValueError(obstacle)
    return {edit.writer.path: low_rank_factors(editor.pristine_weight(edit.writer), edit) for edit in edits}
