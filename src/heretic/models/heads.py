"""Which columns of an attention output projection belong to which query head.

Grouped queries make no difference: keys and values are shared, but every query head has columns of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heretic.edits.writer import ATTENTION, ModelLayout, ResidualWriter, WriterKind

OUTPUT_PROJECTIONS = frozenset({"o_proj", "out_proj", "c_proj", "dense", "wo", "Wo"})
"""Names of projections that read all heads side by side."""
QUERY_PROJECTIONS = frozenset(
    {"q_proj", "q_b_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv", "wq", "q_a_proj", "W_pack"}
)
"""A sibling of one of these names makes an attention; state-space, convolution and recurrent mixers have none."""
LINEAR_ATTENTION = frozenset({"conv1d", "q_conv1d", "dt_proj", "A_log", "in_proj"})
"""Siblings or own parameters of mixers whose heads are not those of the configuration."""
HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_q_heads")
"""Attributes of attention modules, in the order in which they are tried."""
HEAD_SIZES = ("v_head_dim", "head_dim", "head_size")
"""Likewise; of latent attention the values' size counts."""


@dataclass(frozen=True, slots=True)
class HeadColumns:
    """The heads that one output projection reads: head h owns columns h * size to (h + 1) * size.

    Attributes:
        writer: The output projection.
        count: H, the number of query heads.
    """

    writer: ResidualWriter
    count: int

    @property
    def size(self) -> int:
        """Columns of one head."""
        return self.writer.input_size // self.count

    def mask(self, heads: Iterable[int]) -> Tensor:
        """[m] bool: the columns of these heads."""
        chosen = torch.zeros(self.count, dtype=torch.bool)
        chosen[list(heads)] = True
        return chosen.repeat_interleave(self.size)


def head_columns(model: PreTrainedModel, layout: ModelLayout) -> tuple[HeadColumns, ...]:
    """Every output projection of a plain attention, in layer order; other token mixers have no such heads."""
    columns = []
    for writer in layout.writers:
        count = _head_count(model, writer)
        if count is not None:
            columns.append(HeadColumns(writer, count))
    return tuple(columns)


def _head_count(model: PreTrainedModel, writer: ResidualWriter) -> int | None:
    parent_path, _, name = writer.path.rpartition(".")
    if writer.component != ATTENTION or writer.kind is WriterKind.FUSED_EXPERTS or name not in OUTPUT_PROJECTIONS:
        return None
    attention = model.get_submodule(parent_path)
    names = {*dict(attention.named_children()), *dict(attention.named_parameters(recurse=False))}
    if names.isdisjoint(QUERY_PROJECTIONS) or not names.isdisjoint(LINEAR_ATTENTION):
        return None
    count = _whole_number(attention, HEAD_COUNTS) or _whole_number(model.config.get_text_config(), HEAD_COUNTS[1:2])
    if count is None or writer.input_size % count:
        return None
    size = _whole_number(attention, HEAD_SIZES)
    # Modules that disagree with the configuration group their columns in a way of their own.
    return count if size is None or size * count == writer.input_size else None


def _whole_number(holder: nn.Module | object, names: Iterable[str]) -> int | None:
    values = (getattr(holder, name, None) for name in names)
    return next((value for value in values if isinstance(value, int) and not isinstance(value, bool)), None)
