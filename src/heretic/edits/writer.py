"""What writes the residual stream: the frozen description that edits are addressed to.

`models.layout` finds the writers of a loaded model; everything here is plain data, so that the edit algebra needs no
model.
"""

from dataclasses import dataclass
from enum import Enum


class WriterKind(str, Enum):
    """How a writer stores its weight."""

    LINEAR = "linear"
    """`nn.Linear` (or a quantised stand-in): weight [D, m]."""
    CONV1D = "conv1d"
    """GPT-2's `Conv1D`: weight [m, D]."""
    FUSED_EXPERTS = "fused_experts"
    """One tensor for all experts of a block: [E, D, m] or [E, m, D]."""


class Orientation(str, Enum):
    """Order of the last two axes of the stored weight."""

    OUT_IN = "out_in"
    """[..., D, m]: the residual dimension first."""
    IN_OUT = "in_out"
    """[..., m, D]: the residual dimension last."""


ATTENTION = "attention"
"""Component of token mixers: attention, linear-attention and convolution output projections."""
MLP = "mlp"
"""Component of channel mixers: MLP down projections, routed and shared experts."""


@dataclass(frozen=True, slots=True)
class ResidualWriter:
    """One weight whose output is added to the residual stream.

    Attributes:
        layer: Index of the decoder layer, from 0.
        component: ATTENTION or MLP; the search has one strength schedule per component.
        path: Module path from the model's root, e.g. ``model.layers.3.self_attn.o_proj``.
        parameter: Name of the weight in that module (``weight``, or ``down_proj`` of fused experts).
        kind: How the weight is stored.
        orientation: Order of the last two axes of the weight.
        output_size: D, the hidden size that it writes to.
        input_size: m.
        expert_count: E for fused experts, else 1.
        bias: Name of the bias parameter in that module, or None.
        post_norm: Path of an RMSNorm between this writer and the residual stream, or None.
        post_norm_offset: What that norm adds to its stored weight to get the gain (1.0 for Gemma, else 0.0).
        outer_post_norm: Path of a second RMSNorm behind the first one (experts of Gemma 4), with the same offset.
    """

    layer: int
    component: str
    path: str
    parameter: str
    kind: WriterKind
    orientation: Orientation
    output_size: int
    input_size: int
    expert_count: int = 1
    bias: str | None = None
    post_norm: str | None = None
    post_norm_offset: float = 0.0
    outer_post_norm: str | None = None

    @property
    def tensor_name(self) -> str:
        """Name of the weight in the model's state dict."""
        return f"{self.path}.{self.parameter}"


@dataclass(frozen=True, slots=True)
class UneditableWriter:
    """A weight that writes the residual stream but cannot be edited, with the reason in words."""

    layer: int
    component: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """Where a model's residual stream runs and what writes to it.

    Attributes:
        family: Name of the declared architecture family that matched.
        hidden_size: D.
        layer_paths: Module paths of the decoder layers in order; layer l reads residual l and puts out residual l+1.
        writers: Every editable writer, in layer order.
        uneditable: Every writer that was recognised and cannot be edited.
    """

    family: str
    hidden_size: int
    layer_paths: tuple[str, ...]
    writers: tuple[ResidualWriter, ...]
    uneditable: tuple[UneditableWriter, ...] = ()

    @property
    def layer_count(self) -> int:
        """L, the number of decoder layers."""
        return len(self.layer_paths)

    @property
    def components(self) -> tuple[str, ...]:
        """The components that have at least one editable writer, in a fixed order."""
        present = {writer.component for writer in self.writers}
        return tuple(component for component in (ATTENTION, MLP) if component in present)
