"""`use_circuit_ablation`: the attention heads that carry the behaviour, found by attribution, confirmed by edits.

Attribution says what a head writes along its layer's direction, not what becomes of it further up. So the heads that
write most are edited one by one, and those that lower the behaviour's projection at the last layer are kept.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heretic.common.errors import ModelError, UserError
from heretic.directions.statistics import ResidualMoments
from heretic.directions.types import DirectionSet
from heretic.editors.editor import Editor, applied
from heretic.editors.output_space import OutputSpaceEditor
from heretic.edits.algebra import Edit, projection
from heretic.models.access import post_norm_gain
from heretic.models.heads import HeadColumns, head_columns
from heretic.observability.events import Warned, emit
from heretic.observability.steps import counted
from heretic.passes.calibration import backing_off
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet

CONFIRMED_SHARE = 1.5
"""So many times as many heads are edited on trial as are wanted."""
CONFIRMING_PROMPTS = 8
"""Target prompts that each trial is measured on."""


def head_attributions(weight: Tensor, read: Tensor, difference: Tensor, heads: int) -> Tensor:
    """What each head adds along a direction for target prompts more than for baseline prompts.

    A query head owns a block of columns of the output projection, so its part is r^T W[:, block] (x_t - x_b)[block].

    Args:
        weight: [D, m].
        read: [D], reads the direction from the projection's output.
        difference: [m], mean input for the target's prompts minus that for the baseline's, at the last prompt token.
        heads: H, a divisor of m.

    Returns:
        [H] fp32 or fp64; positive where the head writes towards the behaviour.
    """
    read = read.to(weight.device, torch.promote_types(read.dtype, torch.float32))
    parts = (read @ weight.to(read)) * difference.to(read)
    return parts.reshape(heads, -1).sum(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """One attention head.

    Attributes:
        columns: Its output projection.
        index: Which of its heads, from 0.
        attribution: What it adds along the direction of its layer, target minus baseline.
        effect: By which share of the gap between target and baseline the projection at the last layer falls when it is
            edited; None until that is measured.
    """

    columns: HeadColumns
    index: int
    attribution: float
    effect: float | None = None


def find_circuits(
    runner: ModelRunner, target: PromptSet, baseline: PromptSet, directions: DirectionSet, editor: Editor, count: int
) -> list[Head]:
    """The heads that carry the behaviour, strongest first.

    Args:
        runner: The original model.
        target: Training prompts that show the behaviour.
        baseline: Training prompts that do not.
        directions: What is removed; the first direction of each layer counts.
        editor: Gives the original weights.
        count: How many heads at most.

    Raises:
        UserError: The model has no such heads, or none lowers the behaviour.
    """
    columns = head_columns(runner.loaded.model, runner.layout)
    if not columns:
        raise UserError(
            f"{type(runner.loaded.model).__name__} has no attention heads that could be told apart in its output "
            "projections; use --use-circuit-ablation false."
        )
    (target_inputs, target_last), runner = backing_off(
        runner, lambda fitting: _mean_inputs(fitting, target.prompts, columns), "attributing to heads"
    )
    (baseline_inputs, baseline_last), runner = backing_off(
        runner, lambda fitting: _mean_inputs(fitting, baseline.prompts, columns), "attributing to heads"
    )
    ranked: list[Head] = []
    for layer_columns in columns:
        path = layer_columns.writer.path
        difference = target_inputs[path] - baseline_inputs[path]
        _, read = _sides(runner, layer_columns, directions)
        attributions = head_attributions(
            editor.pristine_weight(layer_columns.writer), read[:, 0], difference, layer_columns.count
        )
        ranked += [Head(layer_columns, index, attribution) for index, attribution in enumerate(attributions.tolist())]
    ranked.sort(key=lambda head: -head.attribution)
    candidates = [head for head in ranked[: max(1, round(CONFIRMED_SHARE * count))] if head.attribution > 0]
    last = directions.vectors[-1, 0].float().cpu()
    gap = float((target_last - baseline_last) @ last)
    confirmed = sorted(_confirmed(runner, target, directions, candidates, gap), key=lambda head: -(head.effect or 0.0))
    if not confirmed:
        raise UserError(
            "No attention head lowers the behaviour's projection when it is edited; use --use-circuit-ablation false."
        )
    if len(confirmed) < count:
        emit(Warned(f"Only {len(confirmed)} of the {count} heads that n_refusal_circuits asks for were confirmed."))
    return confirmed[:count]


def head_masks(heads: Sequence[Head]) -> dict[str, Tensor]:
    """By path of an output projection [m] bool, the columns of its heads among these."""
    by_path: defaultdict[str, list[Head]] = defaultdict(list)
    for head in heads:
        by_path[head.columns.writer.path].append(head)
    return {
        path: path_heads[0].columns.mask([head.index for head in path_heads]) for path, path_heads in by_path.items()
    }


def heads_note(heads: Sequence[Head]) -> str:
    """The heads in a sentence, strongest first."""
    named = ", ".join(f"{head.columns.writer.layer}.{head.index}" for head in heads)
    return (
        f"Only the columns of {len(heads)} attention heads (layer.head, strongest first: {named}) were edited; MLPs "
        "and other token mixers were not."
    )


def _sides(runner: ModelRunner, columns: HeadColumns, directions: DirectionSet) -> tuple[Tensor, Tensor]:
    """Write and read side [D, 1] that remove the first direction of the heads' layer, by way of the norm behind it."""
    position = columns.writer.layer + 1
    reads = None if directions.reads is None else directions.reads[position, :1].float().cpu()
    gain = post_norm_gain(runner.loaded.model, columns.writer)
    return projection(
        directions.vectors[position, :1].float().cpu(), torch.ones(1), None if gain is None else gain.cpu(), reads
    )


def _mean_inputs(
    runner: ModelRunner, prompts: Sequence[Prompt], columns: Sequence[HeadColumns]
) -> tuple[dict[str, Tensor], Tensor]:
    """Mean inputs [m] of output projections by path, and the mean last residual [D], all at the last prompt token.

    Behind a norm the input counts as the norm scales what becomes of it.
    """
    sums = {
        layer_columns.writer.path: torch.zeros(layer_columns.writer.input_size, dtype=torch.float64)
        for layer_columns in columns
    }
    moments = ResidualMoments()
    with _last_inputs(runner.loaded.model, columns) as seen:
        for residuals in runner.residuals(prompts):
            moments.update(residuals[:, -1:])
            for path, inputs in seen.items():
                sums[path] += inputs.sum(0, dtype=torch.float64)
    return {path: (total / len(prompts)).float() for path, total in sums.items()}, moments.finish("").mean[0].cpu()


@contextmanager
def _last_inputs(model: nn.Module, columns: Sequence[HeadColumns]) -> Iterator[dict[str, Tensor]]:
    """Inputs [B, m] of output projections at the last position of the latest pass, by path."""
    seen: dict[str, Tensor] = {}

    def keeping(layer_columns: HeadColumns) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
            if output.ndim != 3:
                raise ModelError(
                    f"{layer_columns.writer.path} does not keep its prompts apart, so its heads cannot be compared; "
                    "use --use-circuit-ablation false."
                )
            inputs = arguments[0][:, -1].float().cpu()
            if layer_columns.writer.post_norm is not None:
                written = output[:, -1].float().cpu()
                inputs = inputs / written.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-6)
            seen[layer_columns.writer.path] = inputs

        return hook

    with ExitStack() as stack:
        for layer_columns in columns:
            writer = model.get_submodule(layer_columns.writer.path)
            stack.enter_context(writer.register_forward_hook(keeping(layer_columns)))
        yield seen


def _confirmed(
    runner: ModelRunner, target: PromptSet, directions: DirectionSet, heads: Sequence[Head], gap: float
) -> Iterator[Head]:
    """The heads that, edited alone at strength 1, lower the projection on the last layer's direction."""
    editor = OutputSpaceEditor(runner.loaded.model, runner.layout)
    step = max(1, len(target) // CONFIRMING_PROMPTS)
    prompts = target.prompts[::step][:CONFIRMING_PROMPTS]
    last = directions.vectors[-1, 0].float().cpu()

    def projected() -> float:
        total = sum(float((residuals[:, -1].float().cpu() @ last).sum()) for residuals in runner.residuals(prompts))
        return total / len(prompts)

    before = projected()
    for head in counted(heads, len(heads), "heads"):
        write, read = _sides(runner, head.columns, directions)
        edit = Edit(head.columns.writer, write, read, input_mask=head.columns.mask([head.index]))
        with applied(editor, [edit]):
            effect = (before - projected()) / gap if gap > 0 else before - projected()
        if effect > 0:
            yield Head(head.columns, head.index, head.attribution, effect)
