"""Edits on what the writers put out: no weight is touched, so this also serves quantised weights.

Rows of one batch may carry different candidates: the batch is K contiguous blocks of equal size, one a candidate
(DESIGN section 4, "output space is the engine").
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from heretic.edits.algebra import Edit, edited_output
from heretic.edits.writer import ModelLayout, ResidualWriter, WriterKind
from heretic.errors import ModelError
from heretic.models.access import oriented, writer_bias, writer_weight
from heretic.models.quantized import dequantized_weight, is_quantized


class OutputSpaceEditor:
    """Hooks on the writers of one model."""

    def __init__(self, model: PreTrainedModel, layout: ModelLayout) -> None:
        self._model = model
        self._layout = layout
        self._undo: list[Callable[[], None]] = []

    def pristine_weight(self, writer: ResidualWriter) -> Tensor:
        """See Editor; a quantised weight is dequantised."""
        module = self._model.get_submodule(writer.path)
        if is_quantized(module):
            return dequantized_weight(module)
        return oriented(writer, writer_weight(self._model, writer).data)

    def apply(self, edits: Sequence[Edit]) -> None:
        """See Editor."""
        self.apply_candidates([edits])

    def apply_candidates(self, candidates: Sequence[Sequence[Edit]]) -> None:
        """Give every contiguous block of a batch its own edits.

        Args:
            candidates: K lists of edits; the batch size of every later forward pass has to be a multiple of K.

        Raises:
            ModelError: Experts stored as a list of modules, with K > 1: rows cannot be told apart inside them.
        """
        self.restore()
        by_writer: dict[ResidualWriter, list[Edit | None]] = {}
        for index, edits in enumerate(candidates):
            for edit in edits:
                by_writer.setdefault(edit.writer, [None] * len(candidates))[index] = edit
        for writer, writer_edits in by_writer.items():
            device = next(self._model.get_submodule(writer.path).parameters()).device
            self._attach(writer, _StackedEdit(writer, writer_edits, device))

    def _attach(self, writer: ResidualWriter, stacked: "_StackedEdit") -> None:
        module = self._model.get_submodule(writer.path)
        if writer.kind is WriterKind.FUSED_EXPERTS:
            # Experts of the experts interface say how they work; Llama 4's run every expert on its own block of rows.
            routed = hasattr(module, "has_gate")
            forward = _edited_experts_forward if routed else _edited_dense_experts_forward
            module.forward = partial(forward, module, writer, stacked)
            self._undo.append(lambda: module.__dict__.pop("forward") and None)
            return
        if stacked.count > 1 and self._is_listed_expert(writer):
            raise ModelError(
                f"{writer.path} is one expert of a list, where the rows of several candidates cannot be told apart; "
                "evaluate one candidate at a time on this model."
            )
        bias = writer_bias(self._model, writer)
        handles: list[RemovableHandle] = []
        if stacked.input_scale is not None:
            handles.append(module.register_forward_pre_hook(partial(_scale_input, stacked.input_scale)))
        handles.append(module.register_forward_hook(partial(_edit_output, stacked, bias)))
        self._undo.extend(handle.remove for handle in handles)

    def _is_listed_expert(self, writer: ResidualWriter) -> bool:
        parent = writer.path.rpartition(".")[0].rpartition(".")[0]
        return isinstance(self._model.get_submodule(parent), nn.ModuleList) and parent.endswith("experts")

    def restore(self) -> None:
        """See Editor."""
        while self._undo:
            self._undo.pop()()


class _StackedEdit:
    """The edits of K candidates for one writer, stacked; candidates without an edit get zeros and ones."""

    def __init__(self, writer: ResidualWriter, edits: Sequence[Edit | None], device: torch.device) -> None:
        present = [edit for edit in edits if edit is not None]
        experts = (writer.expert_count,) if writer.kind is WriterKind.FUSED_EXPERTS else ()
        rank = max(edit.write.shape[-1] for edit in present)
        like = present[0].write.to(device)
        self.count = len(edits)
        zeros = like.new_zeros(*experts, writer.output_size, rank)
        self.write = torch.stack([zeros if e is None else _padded(e.write, zeros) for e in edits])
        self.read = torch.stack([zeros if e is None else _padded(e.read, zeros) for e in edits])
        self.output_scale = _stacked(
            [None if e is None else e.output_scale for e in edits], like.new_ones(*experts, writer.output_size)
        )
        self.input_scale = _stacked(
            [None if e is None else e.input_scale for e in edits], like.new_ones(*experts, writer.input_size)
        )
        self.offset = _stacked([None if e is None else e.offset for e in edits], like.new_zeros(writer.output_size))


def _padded(side: Tensor, zeros: Tensor) -> Tensor:
    """A side [..., D, k] in the shape of `zeros` [(E,) D, rank]: zero columns added, experts repeated."""
    missing = zeros.shape[-1] - side.shape[-1]
    return nn.functional.pad(side.to(zeros), (0, missing)).expand_as(zeros)


def _stacked(values: Sequence[Tensor | None], neutral: Tensor) -> Tensor | None:
    if all(value is None for value in values):
        return None
    return torch.stack([neutral if value is None else value.to(neutral).expand_as(neutral) for value in values])


def _scale_input(scale: Tensor, _module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    inputs = arguments[0]
    blocks = inputs.reshape(len(scale), -1, inputs.shape[-1]) * scale.to(inputs)[:, None, :]
    return (blocks.reshape(inputs.shape), *arguments[1:])


def _edit_output(
    stacked: _StackedEdit, bias: Tensor | None, _module: nn.Module, _inputs: Any, output: Tensor
) -> Tensor:
    product = output if bias is None else output - bias
    blocks = product.reshape(stacked.count, -1, output.shape[-1])
    blocks = edited_output(blocks, stacked.write, stacked.read, stacked.output_scale)
    if stacked.offset is not None:
        blocks = blocks + stacked.offset.to(output)[:, None, :]
    result = blocks.reshape(output.shape)
    return result if bias is None else result + bias


def _edited_experts_forward(
    module: Any,
    writer: ResidualWriter,
    stacked: _StackedEdit,
    hidden_states: Tensor,
    top_k_index: Tensor,
    top_k_weights: Tensor,
) -> Tensor:
    """The forward of transformers' fused experts with every expert's output edited before routing weights apply.

    Follows the contract of transformers' experts interface: `_apply_gate`, `is_transposed`, `has_gate`, `has_bias`,
    `has_post_expert_norm`.
    """
    token_count = hidden_states.shape[0]
    candidate = torch.arange(stacked.count, device=hidden_states.device).repeat_interleave(token_count // stacked.count)
    result = torch.zeros_like(hidden_states)
    first_name = "gate_up_proj" if module.has_gate else "up_proj"
    for expert in torch.unique(top_k_index).tolist():
        if expert >= module.num_experts:
            continue
        token, choice = torch.where(top_k_index == expert)
        inner = _expert_linear(module, first_name, expert, hidden_states[token])
        inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
        if stacked.input_scale is not None:
            inner = inner * stacked.input_scale[candidate[token], expert].to(inner)
        output = _expert_linear(module, writer.parameter, expert, inner, with_bias=False)
        output = edited_output(
            output[:, None, :],
            stacked.write[candidate[token], expert],
            stacked.read[candidate[token], expert],
            None if stacked.output_scale is None else stacked.output_scale[candidate[token], expert],
        )[:, 0, :]
        if writer.bias is not None:
            output = output + getattr(module, writer.bias)[expert]
        if stacked.offset is not None:
            output = output + stacked.offset[candidate[token]].to(output)
        if module.has_post_expert_norm:
            output = module.post_expert_norm(output)
        weighted = output * top_k_weights[token, choice, None]
        result.index_add_(0, token, weighted.to(result.dtype))
    return result


def _edited_dense_experts_forward(
    module: Any, writer: ResidualWriter, stacked: _StackedEdit, hidden_states: Tensor
) -> Tensor:
    """The forward of experts that each see every token: rows are E blocks of all tokens (Llama 4)."""
    inputs = hidden_states.view(writer.expert_count, -1, hidden_states.shape[-1])
    gate, up = torch.bmm(inputs, module.gate_up_proj).chunk(2, dim=-1)
    inner = (up * module.act_fn(gate)).unflatten(1, (stacked.count, -1)).transpose(0, 1)  # [K, E, n, m]
    if stacked.input_scale is not None:
        inner = inner * stacked.input_scale.to(inner)[:, :, None, :]
    output = edited_output(inner @ getattr(module, writer.parameter), stacked.write, stacked.read, stacked.output_scale)
    if stacked.offset is not None:
        output = output + stacked.offset.to(output)[:, None, None, :]
    return output.transpose(0, 1).reshape(hidden_states.shape)


def _expert_linear(module: Any, name: str, expert: int, inputs: Tensor, with_bias: bool = True) -> Tensor:
    weight = getattr(module, name)[expert]
    output: Tensor = inputs @ (weight if module.is_transposed else weight.mT)
    if with_bias and module.has_bias:
        output = output + getattr(module, f"{name}_bias")[expert]
    return output
