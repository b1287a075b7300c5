"""`use_caa`: edited layers also move the residual stream from what the model refuses to what it answers.

Contrastive activation addition (Rimsky et al., arXiv 2312.06681), with the model's own verdicts as the contrast.
Before anything is measured it is made sure that a saved model can hold the biases that this takes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from heretic.common.errors import ModelError, UserError
from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.edits.build import Shift
from heretic.edits.writer import ModelLayout
from heretic.evaluation.refusal_patterns import RefusalDetector
from heretic.extraction.extract import collect_statistics
from heretic.models.arrival import constant_shares
from heretic.models.biases import BiasHolder, bias_holders, hold_biases
from heretic.observability.events import Warned, emit
from heretic.passes.choose import choose, ordinary_wanted
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet

_ANSWERING = "answering the training prompts"
MINIMUM_PROMPTS = 5
"""Fewer prompts of a class give a mean that is mostly chance."""


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


def shifting_writers(runner: ModelRunner, prompt: Prompt) -> tuple[ModelRunner, dict[int, Shift]]:
    """By layer the writer that can move the residual stream; an unquantised model is made to hold these biases.

    Args:
        runner: The model.
        prompt: Any; what the writers' outputs become is measured on it.

    Returns:
        The runner with the model's layout as it is then, and shifts by nothing.

    Raises:
        ModelError: No layer has such a writer.
    """
    model, layout = runner.loaded.model, runner.layout
    shifts: dict[int, Shift] = {}
    holders = bias_holders(model, layout)
    for turn in range(max(map(len, holders.values()), default=0)):
        open_layers = {
            layer: layer_holders[turn]
            for layer, layer_holders in holders.items()
            if layer not in shifts and len(layer_holders) > turn
        }
        shifts |= _measured_shares(runner, layout, open_layers, prompt)
    if not shifts:
        raise ModelError(
            f"use_caa saves its direction as biases, and {type(model).__name__} has none where they are needed, nor an "
            "option for them; use --use-caa false."
        )
    missing = layout.layer_count - len(shifts)
    if missing:
        emit(Warned(f"{missing} of {layout.layer_count} layers can hold no bias, so use_caa leaves them out."))
    if runner.loaded.quantization == "none":
        layout = hold_biases(model, layout, [shifts[layer].path for layer in sorted(shifts)])
        runner = ModelRunner(runner.loaded, layout, runner.formatter, runner.calibration)
    return runner, shifts


def _measured_shares(
    runner: ModelRunner, layout: ModelLayout, holders: dict[int, BiasHolder], prompt: Prompt
) -> dict[int, Shift]:
    writers = [holder.writer for holder in holders.values()]
    shares = constant_shares(runner.loaded.model, layout, writers, runner.encode(prompt)) if writers else {}
    nowhere = torch.zeros(layout.hidden_size)
    return {layer: Shift(holders[layer].writer.path, nowhere, share) for layer, share in shares.items()}


def compliance_shifts(
    settings: Settings,
    runner: ModelRunner,
    target: PromptSet,
    directions: DirectionSet,
    writers: dict[int, Shift],
) -> dict[int, Shift]:
    """By layer the move towards what the model answers: `caa_strength` times the compliance direction.

    Args:
        settings: Strength, threshold, and what counts as a refusal.
        runner: The original model.
        target: Training prompts that show the behaviour.
        directions: What is removed.
        writers: From `shifting_writers`.

    Raises:
        UserError: The model answers, or refuses, too few of the prompts, or all layers are left out.
    """
    compliance = _compliance(settings, runner, target)
    overlap = overlaps(compliance, directions.vectors.to(compliance.device)).tolist()
    threshold = settings.caa_overlap_threshold
    layers = [layer for layer in sorted(writers) if overlap[layer + 1] <= threshold]
    skipped = [layer for layer in sorted(writers) if layer not in layers]
    if not layers:
        lowest = min(overlap[layer + 1] for layer in skipped)
        raise UserError(
            f"In every layer the compliance direction overlaps with what is removed by {lowest:.2f} or more; raise "
            "--caa-overlap-threshold or use --use-caa false."
        )
    if skipped:
        emit(
            Warned(
                f"use_caa leaves out {len(skipped)} of {len(writers)} layers ({spans(skipped)}), where the compliance "
                f"direction overlaps with what is removed by more than {threshold:g}."
            )
        )
    return {
        layer: Shift(writers[layer].path, settings.caa_strength * compliance[layer + 1].cpu(), writers[layer].share)
        for layer in layers
    }


def _compliance(settings: Settings, runner: ModelRunner, target: PromptSet) -> Tensor:
    """[L+1, D], from the original model's verdicts on the target's training prompts."""
    rows, most = [runner.encode(prompt) for prompt in target.prompts], settings.refusal_check_tokens
    choice = choose(runner, rows, max(map(len, rows)) + most, ordinary_wanted(settings), _ANSWERING)
    passes = choice.of_the_original
    responses = passes.answers(rows, most, _ANSWERING)
    detector = RefusalDetector(settings)
    verdicts = [detector.is_refusal(response.text) for response in responses]
    by_verdict = {
        verdict: [prompt for prompt, refuses in zip(target.prompts, verdicts, strict=True) if refuses is verdict]
        for verdict in (False, True)
    }
    answered, refused = by_verdict[False], by_verdict[True]
    if min(len(answered), len(refused)) < MINIMUM_PROMPTS:
        raise UserError(
            f"Of {len(target)} bad_prompts the original model answers {len(answered)} and refuses {len(refused)}, and "
            f"use_caa needs {MINIMUM_PROMPTS} of each; give other --bad-prompts or use --use-caa false."
        )
    means = [collect_statistics(passes, PromptSet(target.name, tuple(prompts))).mean for prompts in (answered, refused)]
    choice.give_back_order()
    return compliance_directions(*means)


def shifts_note(shifts: dict[int, Shift], strength: float) -> str:
    """The shifts in a sentence."""
    return (
        f"In edited layers among {spans(sorted(shifts))} biases move the residual stream by {strength:g} times the "
        "mean difference between target prompts that the original model answers and those that it refuses."
    )


def spans(layers: Sequence[int]) -> str:
    """Sorted numbers as text, neighbours joined: ``0 to 3, 7``."""
    parts: list[list[int]] = []
    for layer in layers:
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)
