"""Edits on what the writers put out: no weight is touched, so this also serves quantised weights.

Rows of one batch may carry different candidates, so that many are measured by one pass. Blocks of equal size, one a
candidate, are edited through views; any other order of rows gathers its sides once, when the rows change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from heretic.common.errors import ModelError
from heretic.edits.algebra import Edit, edited_output
from heretic.edits.writer import ModelLayout, ResidualWriter, WriterKind
from heretic.models.access import is_listed_expert, oriented, writer_bias, writer_values
from heretic.models.private_api import (
    dequantized_weight,
    expert_activation,
    expert_norm,
    has_expert_norm,
    is_gated,
    is_routed,
    is_transposed,
    override_forward,
)
from heretic.models.storage import is_quantized


class OutputSpaceEditor:
    """Hooks on the writers of one model."""

    def __init__(self, model: PreTrainedModel, layout: ModelLayout) -> None:
        self._model = model
        self._layout = layout
        self._undo: list[Callable[[], None]] = []
        self._rows = RowGroups(1)

    def pristine_weight(self, writer: ResidualWriter) -> Tensor:
        """See Editor; a quantised weight is dequantised."""
        module = self._model.get_submodule(writer.path)
        if is_quantized(module):
            return dequantized_weight(module)
        return oriented(writer, writer_values(self._model, writer))

    def apply(self, edits: Sequence[Edit]) -> None:
        """See Editor."""
        self.apply_candidates([edits])

    def apply_candidates(self, candidates: Sequence[Sequence[Edit]]) -> None:
        """Give every contiguous block of a batch its own edits; `assign_rows` says otherwise which row has which.

        Args:
            candidates: K lists of edits; the batch size of every later forward pass has to be a multiple of K.

        Raises:
            ModelError: Experts stored as a list of modules, with K > 1: rows cannot be told apart inside them.
        """
        self.restore()
        self._rows = RowGroups(len(candidates))
        by_writer: dict[ResidualWriter, list[Edit | None]] = {}
        for index, edits in enumerate(candidates):
            for edit in edits:
                by_writer.setdefault(edit.writer, [None] * len(candidates))[index] = edit
        for writer, writer_edits in by_writer.items():
            module = self._model.get_submodule(writer.path)
            device = next(module.parameters()).device
            per_expert = writer.kind is WriterKind.FUSED_EXPERTS and not _edits_sum(module, writer, writer_edits)
            self._attach(writer, _StackedEdit(writer, writer_edits, device, self._rows, per_expert))

    def assign_rows(self, candidates: Sequence[int]) -> None:
        """Say which candidate each row of the next forward passes carries.

        Args:
            candidates: [B] indices into what `apply_candidates` was given.
        """
        self._rows.assign(candidates)

    def _attach(self, writer: ResidualWriter, stacked: "_StackedEdit") -> None:
        module = self._model.get_submodule(writer.path)
        if stacked.per_expert:
            if stacked.masks_input:
                raise ModelError(f"{writer.path} is a tensor of all experts, whose columns cannot be edited in part.")
            # Experts of the experts interface say how they work; Llama 4's run every expert on its own block of rows.
            forward = _edited_experts_forward if is_routed(module) else _edited_dense_experts_forward
            self._undo.append(override_forward(module, partial(forward, module, writer, stacked)))
            return
        if stacked.count > 1 and is_listed_expert(self._model, writer.path):
            raise ModelError(
                f"{writer.path} is one expert of a list, where the rows of several candidates cannot be told apart; "
                "evaluate one candidate at a time on this model."
            )
        bias = writer_bias(self._model, writer)
        if stacked.scales_input:
            self._undo.append(module.register_forward_pre_hook(partial(_scale_input, stacked)).remove)
        self._undo.append(module.register_forward_hook(partial(_edit_output, stacked, bias)).remove)

    def restore(self) -> None:
        """See Editor."""
        while self._undo:
            self._undo.pop()()


class RowGroups:
    """Which candidate the rows of the running batch carry, shared by all hooks of an editor.

    Attributes:
        count: K, the number of candidates.
        index: [G] candidate of each group of rows, or None where group g is candidate g (G = K).
        version: Counts assignments, so that what was gathered for one is not used for another.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.index: Tensor | None = None
        self.version = 0

    def assign(self, candidates: Sequence[int]) -> None:
        """See Editor.assign_rows."""
        runs = [(candidate, len(list(rows))) for candidate, rows in groupby(candidates)]
        equal = len({length for _, length in runs}) == 1
        index = [candidate for candidate, _ in runs] if equal else list(candidates)
        self.index = None if index == list(range(self.count)) else torch.tensor(index)
        self.version += 1


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """The sides of an edit for the G groups of rows of a batch, in the dtype of the activations."""

    write: Tensor
    read: Tensor
    output_scale: Tensor | None
    input_scale: Tensor | None
    offset: Tensor | None
    input_mask: Tensor | None

    @property
    def groups(self) -> int:
        return len(self.write)


class _StackedEdit:
    """The edits of K candidates for one writer, stacked; candidates without an edit get zeros and ones."""

    def __init__(
        self,
        writer: ResidualWriter,
        edits: Sequence[Edit | None],
        device: torch.device,
        rows: RowGroups,
        per_expert: bool,
    ) -> None:
        present = [edit for edit in edits if edit is not None]
        experts = (writer.expert_count,) if per_expert else ()
        rank = max(edit.write.shape[-1] for edit in present)
        like = present[0].write.to(device)
        self.count = len(edits)
        self.per_expert = per_expert
        zeros = like.new_zeros(*experts, writer.output_size, rank)
        self._all = _Sides(
            torch.stack([zeros if e is None else _padded(e.write, zeros) for e in edits]),
            torch.stack([zeros if e is None else _padded(e.read, zeros) for e in edits]),
            _stacked([None if e is None else e.output_scale for e in edits], like.new_ones(*zeros.shape[:-1])),
            _stacked([None if e is None else e.input_scale for e in edits], like.new_ones(*experts, writer.input_size)),
            _stacked([None if e is None else e.offset for e in edits], like.new_zeros(writer.output_size)),
            _stacked([None if e is None else e.input_mask for e in edits], like.new_ones(writer.input_size)),
        )
        self._rows = rows
        self._cast: _Sides | None = None
        self._gathered: _Sides | None = None
        self._version = -1

    @property
    def scales_input(self) -> bool:
        """Whether any candidate scales what the writer reads."""
        return self._all.input_scale is not None

    @property
    def masks_input(self) -> bool:
        """Whether any candidate edits some columns only."""
        return self._all.input_mask is not None

    def of_candidates(self, like: Tensor) -> _Sides:
        """The sides of the K candidates, in the dtype and on the device of `like`."""
        cast = self._cast
        if cast is None or cast.write.dtype != like.dtype or cast.write.device != like.device:
            self._cast = cast = _map_sides(self._all, lambda side: side.to(like))
            self._version = -1
        return cast

    def candidate_of(self, rows: int, like: Tensor) -> Tensor:
        """[rows] candidate of each of the batch's flattened rows."""
        index = self._rows.index
        groups = torch.arange(self.count) if index is None else index
        return groups.to(like.device).repeat_interleave(rows // len(groups))

    def sides(self, like: Tensor) -> _Sides:
        """The sides of the running batch's groups of rows, as `of_candidates`; cached until the rows change."""
        cast = self.of_candidates(like)
        if self._version != self._rows.version or self._gathered is None:
            index = self._rows.index
            self._gathered = cast if index is None else _map_sides(cast, lambda side: side[index.to(side.device)])
            self._version = self._rows.version
        return self._gathered


def _map_sides(sides: _Sides, change: Callable[[Tensor], Tensor]) -> _Sides:
    def optional(side: Tensor | None) -> Tensor | None:
        return None if side is None else change(side)

    return _Sides(
        change(sides.write),
        change(sides.read),
        optional(sides.output_scale),
        optional(sides.input_scale),
        optional(sides.offset),
        optional(sides.input_mask),
    )


def _edits_sum(module: Any, writer: ResidualWriter, edits: Sequence[Edit | None]) -> bool:
    """Whether editing the weighted sum over fused experts equals editing each: the edit is linear and the same for all.

    Not where a bias, which edits leave alone, is part of the sum, nor behind a norm of each expert's output.
    """
    if writer.bias is not None or not is_routed(module) or has_expert_norm(module):
        return False
    return all(
        edit is None or (edit.is_low_rank and edit.input_mask is None and edit.write.dim() == edit.read.dim() == 2)
        for edit in edits
    )


def _padded(side: Tensor, zeros: Tensor) -> Tensor:
    """A side [..., D, k] in the shape of `zeros` [(E,) D, rank]: zero columns added, experts repeated."""
    missing = zeros.shape[-1] - side.shape[-1]
    return nn.functional.pad(side.to(zeros), (0, missing)).expand_as(zeros)


def _stacked(values: Sequence[Tensor | None], neutral: Tensor) -> Tensor | None:
    if all(value is None for value in values):
        return None
    return torch.stack([neutral if value is None else value.to(neutral).expand_as(neutral) for value in values])


def _scale_input(stacked: _StackedEdit, _module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    inputs = arguments[0]
    scale = stacked.sides(inputs).input_scale
    if scale is None:
        return arguments
    blocks = inputs.reshape(len(scale), -1, inputs.shape[-1]) * scale[:, None, :]
    return (blocks.reshape(inputs.shape), *arguments[1:])


def _edit_output(
    stacked: _StackedEdit, bias: Tensor | None, module: nn.Module, inputs: tuple[Any, ...], output: Tensor
) -> Tensor:
    product = output if bias is None else output - bias
    sides = stacked.sides(output)
    blocks = product.reshape(sides.groups, -1, output.shape[-1])
    if sides.input_mask is None:
        blocks = edited_output(blocks, sides.write, sides.read, sides.output_scale)
    else:
        part = _masked_product(module, inputs[0], sides.input_mask, bias).reshape(blocks.shape)
        # The difference is small, so that little is lost to rounding where it is added.
        blocks = blocks + (edited_output(part, sides.write, sides.read, sides.output_scale) - part)
    if sides.offset is not None:
        blocks = blocks + sides.offset[:, None, :]
    result = blocks.reshape(output.shape)
    return result if bias is None else result + bias


def _masked_product(module: nn.Module, inputs: Tensor, mask: Tensor, bias: Tensor | None) -> Tensor:
    """What the masked columns put out, without the bias; `inputs` are scaled already where the edit scales them.

    By the module's own forward, which runs no hooks, so that packed and quantised weights serve as well.
    """
    chosen = inputs.reshape(len(mask), -1, inputs.shape[-1]) * mask[:, None, :].to(inputs)
    product: Tensor = module.forward(chosen.reshape(inputs.shape))
    return product if bias is None else product - bias


def _edited_experts_forward(
    module: Any,
    writer: ResidualWriter,
    stacked: _StackedEdit,
    hidden_states: Tensor,
    top_k_index: Tensor,
    top_k_weights: Tensor,
) -> Tensor:
    """The forward of transformers' fused experts with every expert's output edited before routing weights apply."""
    token_count = hidden_states.shape[0]
    # Not gathered: for every row and expert that would be far more than the activations.
    sides = stacked.of_candidates(hidden_states)
    candidate = stacked.candidate_of(token_count, hidden_states)
    result = torch.zeros_like(hidden_states)
    first_name = "gate_up_proj" if is_gated(module) else "up_proj"
    for expert in torch.unique(top_k_index).tolist():
        if expert >= module.num_experts:
            continue
        token, choice = torch.where(top_k_index == expert)
        inner = expert_activation(module, _expert_linear(module, first_name, expert, hidden_states[token]))
        if sides.input_scale is not None:
            inner = inner * sides.input_scale[candidate[token], expert]
        output = _expert_linear(module, writer.parameter, expert, inner, with_bias=False)
        output = edited_output(
            output[:, None, :],
            sides.write[candidate[token], expert],
            sides.read[candidate[token], expert],
            None if sides.output_scale is None else sides.output_scale[candidate[token], expert],
        )[:, 0, :]
        if writer.bias is not None:
            output = output + getattr(module, writer.bias)[expert]
        if sides.offset is not None:
            output = output + sides.offset[candidate[token]]
        weighted = expert_norm(module, output) * top_k_weights[token, choice, None]
        result.index_add_(0, token, weighted.to(result.dtype))
    return result


def _edited_dense_experts_forward(
    module: Any, writer: ResidualWriter, stacked: _StackedEdit, hidden_states: Tensor
) -> Tensor:
    """The forward of experts that each see every token: rows are E blocks of all tokens (Llama 4)."""
    inputs = hidden_states.view(writer.expert_count, -1, hidden_states.shape[-1])
    gate, up = torch.bmm(inputs, module.gate_up_proj).chunk(2, dim=-1)
    sides = stacked.sides(hidden_states)
    inner = (up * module.act_fn(gate)).unflatten(1, (sides.groups, -1)).transpose(0, 1)  # [G, E, n, m]
    if sides.input_scale is not None:
        inner = inner * sides.input_scale[:, :, None, :]
    output = edited_output(inner @ getattr(module, writer.parameter), sides.write, sides.read, sides.output_scale)
    if sides.offset is not None:
        output = output + sides.offset[:, None, None, :]
    return output.transpose(0, 1).reshape(hidden_states.shape)


def _expert_linear(module: Any, name: str, expert: int, inputs: Tensor, with_bias: bool = True) -> Tensor:
    weight = getattr(module, name)[expert]
    output: Tensor = inputs @ (weight if is_transposed(module) else weight.mT)
    if with_bias and module.has_bias:
        output = output + getattr(module, f"{name}_bias")[expert]
    return output
