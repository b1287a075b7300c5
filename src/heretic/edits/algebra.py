"""The mathematics of an edit: pure functions of tensors, no model and no settings.

Weights are always [..., D, m] here (D is the residual dimension that the weight writes to; leading axes are experts).
Computation is in fp32, or fp64 where the weight is fp64. With W the weight, v a
direction and w its strength, an edit is W' = W - w v (v^T W), or the same with norms of rows or columns kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from heretic.edits.writer import ResidualWriter

MINIMUM_GAIN = 1e-2
"""Gains of a post-norm are clamped to this magnitude before the write side is divided by them."""

ELEMENTWISE_RANK = 4
"""Up to this many directions are taken out one by one: products with so small an inner size are slow on CPUs (for one
direction 3 to 20 times, see benchmarks/README.md)."""

_NEARLY_NOTHING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """One change of one writer: y' = output_scale * (y0 - write (read^T y0)) + bias + offset, y0 = W (input_scale * x).

    With a mask the same is done to the chosen columns of the weight alone, as if they were a weight of their own; what
    the other columns put out is added unchanged: y' = (the edit of W M) x + W (I - M) x + bias + offset with
    M = diag(mask).

    Attributes:
        writer: Which weight.
        write: [..., D, k], strengths folded in; leading axis only where experts differ.
        read: [..., D, k].
        input_scale: [..., m] or None.
        output_scale: [..., D] or None.
        offset: [D] or None: added to the bias.
        input_mask: [m] bool or None: the columns that are edited. The input scale is 1 outside.
    """

    writer: ResidualWriter
    write: Tensor
    read: Tensor
    input_scale: Tensor | None = None
    output_scale: Tensor | None = None
    offset: Tensor | None = None
    input_mask: Tensor | None = None

    @property
    def is_low_rank(self) -> bool:
        """Whether W' - W has rank k."""
        return self.input_scale is None and self.output_scale is None and self.offset is None


def computation_dtype(tensor: Tensor) -> torch.dtype:
    """fp64 for fp64 input, else fp32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def projection(
    vectors: Tensor, strengths: Tensor, gain: Tensor | None = None, reads: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The write and read sides that remove directions from a writer's output.

    Args:
        vectors: [k, D], orthonormal.
        strengths: [k]; 1 removes, negative values strengthen.
        gain: [D], the gain of an RMSNorm between writer and residual stream, or None. The edit is then oblique, so that
            the direction that reaches the residual stream is the one removed: y' = y - w (v / gain) (gain * v)^T y.
        reads: [k, D], what reads each direction, or None where the directions read themselves.

    Returns:
        write [D, k] with the strengths folded in, and read [D, k].
    """
    columns = vectors.T
    read_columns = columns if reads is None else reads.T
    if gain is None:
        return columns * strengths, read_columns
    safe_gain = torch.where(gain.abs() < MINIMUM_GAIN, torch.copysign(torch.full_like(gain, MINIMUM_GAIN), gain), gain)
    return columns / safe_gain[:, None] * strengths, read_columns * safe_gain[:, None]


def keep_row_norms(weight: Tensor, write: Tensor, read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The edit of the row-normalised weight, with every row's norm kept exactly, without forming the edited weight.

    With W = diag(d) U: U' = U - write (read^T U), W' = diag(d / |rows of U'|) U'.

    Args:
        weight: [..., D, m].
        write: [D, k] with strengths.
        read: [D, k].

    Returns:
        write [..., D, k], read [..., D, k] and output_scale [..., D] of the Edit on W.
    """
    weight = weight.to(computation_dtype(weight))
    write, read = write.to(weight), read.to(weight)
    row_norms = weight.norm(dim=-1)
    # A zero row has no direction and stays zero.
    inverse = torch.where(row_norms > _NEARLY_NOTHING, row_norms.clamp_min(_NEARLY_NOTHING).reciprocal(), 0.0)
    scaled_read = read * inverse[..., None]
    response = weight.mT @ scaled_read  # [..., m, k] = U^T read
    overlap = (weight @ response) * inverse[..., None]  # [..., D, k] = U U^T read
    gram = response.mT @ response  # [..., k, k]
    squared = 1 - 2 * (write * overlap).sum(-1) + ((write @ gram) * write).sum(-1)
    # A row that the edit makes vanish is not blown up again.
    keeps = squared > _NEARLY_NOTHING
    scale = torch.where(keeps, squared.clamp_min(_NEARLY_NOTHING).rsqrt(), torch.ones_like(squared))
    return write * row_norms[..., None], scaled_read, scale


def keep_column_norms(weight: Tensor, write: Tensor, read: Tensor) -> Tensor:
    """The input scale that gives every column of the edited weight its old norm.

    Args:
        weight: [..., D, m].
        write: [D, k] with strengths.
        read: [D, k].

    Returns:
        input_scale [..., m], so that W' = (I - write read^T) W diag(input_scale).
    """
    weight = weight.to(computation_dtype(weight))
    write, read = write.to(weight), read.to(weight)
    response = read.T @ weight  # [..., k, m]
    written = write.T @ weight  # [..., k, m]
    gram = write.T @ write  # [k, k]
    before = weight.square().sum(-2)
    edited = before - 2 * (written * response).sum(-2) + (response * (gram @ response)).sum(-2)
    # A column that lies wholly along the direction vanishes and is not blown up again.
    keeps = edited > before * 1e-9
    return torch.where(keeps, before / torch.where(keeps, edited, torch.ones_like(edited)), 1.0).sqrt()


def edited_weight(weight: Tensor, edit: Edit) -> Tensor:
    """W' of an edit, in the weight's dtype.

    Args:
        weight: [..., D, m].
        edit: The edit; its offset does not concern the weight.

    Returns:
        [..., D, m].
    """
    original_dtype = weight.dtype
    weight = weight.to(computation_dtype(weight))
    if edit.input_scale is not None:
        weight = weight * edit.input_scale.to(weight)[..., None, :]
    response = edit.read.to(weight).mT @ weight
    if edit.input_mask is not None:
        response = response * edit.input_mask.to(weight)
    result = weight - edit.write.to(weight) @ response
    if edit.output_scale is not None:
        scaled = result * edit.output_scale.to(weight)[..., None]
        # The other columns are not rescaled: their norms are part of the rows' norms as they are.
        result = scaled if edit.input_mask is None else torch.where(edit.input_mask.to(weight.device), scaled, result)
    return result.to(original_dtype)


def low_rank_factors(weight: Tensor, edit: Edit) -> tuple[Tensor, Tensor]:
    """Factors of what an edit adds to a weight before it scales outputs: W' = diag(output_scale) (W + B A).

    Args:
        weight: [..., D, m].
        edit: Without scaled inputs.

    Returns:
        A [..., k, m] and B [..., D, k].

    Raises:
        ValueError: The edit scales inputs.
    """
    if edit.input_scale is not None:
        raise ValueError("an edit that scales inputs has no low-rank factors")
    weight = weight.to(computation_dtype(weight))
    factor_a = edit.read.to(weight).mT @ weight
    if edit.input_mask is not None:
        factor_a = factor_a * edit.input_mask.to(weight)
    return factor_a, -edit.write.to(weight).expand(*factor_a.shape[:-2], *edit.write.shape[-2:])


def edited_output(output: Tensor, write: Tensor, read: Tensor, output_scale: Tensor | None) -> Tensor:
    """The output-space form of an edit: output_scale * (y0 - write (read^T y0)).

    Args:
        output: [..., n, D], a writer's output without its bias.
        write: [..., D, k].
        read: [..., D, k].
        output_scale: [..., D] or None.

    Returns:
        [..., n, D] in the dtype of `output`.
    """
    write, read = write.to(output), read.to(output)
    if write.shape[-1] <= ELEMENTWISE_RANK:
        result = output
        for column in range(write.shape[-1]):
            coefficient = (output * read[..., None, :, column]).sum(-1, keepdim=True)
            result = torch.addcmul(result, coefficient, write[..., None, :, column], value=-1)
    else:
        result = output - (output @ read) @ write.mT
    if output_scale is not None:
        result = result * output_scale.to(output)[..., None, :]
    return result
