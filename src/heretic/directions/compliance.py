"""The compliance direction: from what a model refuses to what it answers of the same kind of request.

Contrastive activation addition (Rimsky et al., arXiv 2312.06681), with the model's own verdicts as the contrast.
"""

import torch
from torch import Tensor


def compliance_directions(answered: Tensor, refused: Tensor) -> Tensor:
    """Mean residual of the answered prompts minus that of the refused ones.

    Args:
        answered: [L+1, D].
        refused: [L+1, D].

    Returns:
        [L+1, D] fp32, in units of the residual stream.
    """
    return answered.float() - refused.float()


def overlaps(compliance: Tensor, vectors: Tensor) -> Tensor:
    """How much of each compliance direction lies in the span of what is removed there.

    Args:
        compliance: [L+1, D].
        vectors: [L+1, k, D], orthonormal over k, zero rows allowed.

    Returns:
        [L+1] in [0, 1]; |cos| for one direction. 1 where there is no compliance direction.
    """
    length = compliance.norm(dim=-1)
    inside = torch.einsum("ld,lkd->lk", compliance.to(vectors), vectors).norm(dim=-1)
    tiny = torch.finfo(length.dtype).tiny
    return torch.where(length > tiny, inside / length.clamp_min(tiny), torch.ones_like(length)).clamp_max(1.0)
