"""Refining directions by gradient: as few first tokens of the behaviour as a bound on divergence allows.

After arXiv 2502.17420 (refusal direction optimisation), which also optimises directions through the model that they
are taken out of. There one direction is taken out of all layers and losses are added up; here every layer has its own,
and the divergence of baseline prompts is a constraint, whose price follows from how far it is kept.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.edits.algebra import Edit, projection
from heretic.extraction.gradient_objective import EditsOf, Loss, Objective, mean_loss
from heretic.extraction.onset import Onset, Shows, find_onset
from heretic.extraction.precision import for_gradients
from heretic.models.access import post_norm_gain
from heretic.observability.events import GradientStep, RefinementFinished, RefinementStarted, Warned, emit
from heretic.observability.steps import counted
from heretic.passes.calibration import backing_off
from heretic.passes.choose import Choice
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

START = 0.3
"""Strength of every layer to begin with."""
LEARNING_RATE = 0.05
"""Relative to the mean entry of a unit vector, so that steps mean the same in models of every width."""
FIRST_WEIGHT = 0.05
"""Of the log-odds against KL, before the divergence has had its say."""
PATIENCE = 0.15
"""How fast the weight follows: the power of the bound's ratio to the divergence."""
LARGEST_CHANGE = 1.25
"""Of the weight in one step: single steps see few prompts."""
REMEMBERED = 0.7
"""Share of the past in the running mean of the divergence."""
AVERAGED = 0.25
"""Share of the steps, at the end, whose parameters are averaged."""
BATCH = 8
"""Baseline prompts of a step, and target ones."""


class Batches:
    """Rows in turn, each as often as any other."""

    def __init__(self, rows: Sequence[int]) -> None:
        self._rows = list(rows)
        self._place = 0

    def next(self) -> list[int]:
        """The next rows."""
        size = min(BATCH, len(self._rows))
        rows = [self._rows[(self._place + offset) % len(self._rows)] for offset in range(size)]
        self._place = (self._place + size) % len(self._rows)
        return rows


def refined(
    settings: Settings,
    choice: Choice,
    directions: DirectionSet,
    baseline: Sequence[Prompt],
    target: Sequence[Prompt],
    shows: Shows,
) -> DirectionSet:
    """Directions that need less of an edit; as they were, with a warning, where the behaviour has no onset.

    Args:
        settings: How long, within which bounds, and whether the behaviour shall become less or more.
        choice: How the original model reads these prompts.
        directions: One for every position.
        baseline: Training prompts without the behaviour.
        target: Training prompts with it.
        shows: Whether an answer shows the behaviour.

    Raises:
        OutOfMemoryError: Not even one prompt at a time goes through.
    """
    started = time.perf_counter()
    length = settings.refusal_check_tokens
    passes, removes = choice.of_the_original, settings.goal == "remove"
    onset = find_onset(passes, baseline, target, settings.rdo_prompts, length, shows, removes)
    # What gradients go through has its weights in their plain order.
    choice.give_back_order()
    if isinstance(onset, str):
        emit(Warned(f"The directions are not refined, because {onset}."))
        return directions
    (scaled, loss), _runner = backing_off(
        for_gradients(passes.runner),
        lambda fitting: _descend(settings, fitting, directions, onset),
        "refining directions",
    )
    result = with_scaled(directions, scaled)
    cosines = (result.vectors[1:, 0] * directions.vectors[1:, 0]).sum(-1)
    emit(RefinementFinished(loss.kl, loss.share, float(cosines.mean()), time.perf_counter() - started))
    return result


def with_scaled(directions: DirectionSet, scaled: Tensor) -> DirectionSet:
    """The set with other vectors for the layers' outputs.

    The lengths that were refined along with the directions become their weights, relative to the largest: a layer that
    was not needed has a direction that was refined into nothing in particular.

    Args:
        directions: One for every position; their side of each layer's direction is kept.
        scaled: [L, D], the squared length of each the layer's strength.
    """
    device = directions.vectors.device
    scaled = scaled.to(directions.vectors)
    strengths = scaled.square().sum(-1)
    unit = scaled / strengths.sqrt().clamp_min(torch.finfo(scaled.dtype).tiny)[:, None]
    cosines = (unit * directions.vectors[1:, 0]).sum(-1)
    unit = torch.where(cosines[:, None] < 0, -unit, unit)
    weights = strengths / strengths.max().clamp_min(torch.finfo(scaled.dtype).tiny)
    quality = directions.quality.clone()
    quality[1:] *= cosines.abs().to(quality)
    return replace(
        directions,
        vectors=torch.cat([directions.vectors[:1], unit[:, None]]),
        weights=torch.cat([torch.ones(1, 1, device=device), weights[:, None]]),
        quality=quality,
    )


def edits_of_scaled(runner: ModelRunner, sign: float) -> EditsOf:
    """From vectors [L, D] to edits y' = y - sign v v^T y of every writer of the layer, norms aside."""
    writers = runner.layout.writers
    gains = [post_norm_gain(runner.loaded.model, writer) for writer in writers]

    def edits(scaled: Tensor) -> list[Edit]:
        vectors = scaled.to(runner.loaded.device)
        strength = torch.full((1,), sign, device=vectors.device)
        layer_edits = []
        for writer, gain in zip(writers, gains, strict=True):
            writer_gain = None if gain is None else gain.to(vectors)
            write, read = projection(vectors[writer.layer : writer.layer + 1], strength, writer_gain)
            layer_edits.append(Edit(writer, write, read))
        return layer_edits

    return edits


def _descend(settings: Settings, runner: ModelRunner, directions: DirectionSet, onset: Onset) -> tuple[Tensor, Loss]:
    """Scaled vectors [L, D] in host memory, and the mean loss of the last steps. Emits GradientStep."""
    sign = -1.0 if settings.goal == "strengthen" else 1.0
    objective = Objective(runner, edits_of_scaled(runner, sign), onset, sign)
    decode = runner.loaded.tokenizer.decode
    tokens = tuple(str(decode([token])) for token in onset.tokens)
    emit(
        RefinementStarted(settings.rdo_steps, len(onset.baseline), len(onset.target), tokens, runner.calibration.dtype)
    )
    scaled = (directions.vectors[1:, 0].float().cpu() * START**0.5).requires_grad_()
    optimizer = torch.optim.Adam([scaled], lr=LEARNING_RATE / scaled.shape[-1] ** 0.5, betas=(0.9, 0.95))
    baseline, target = Batches(objective.baseline_rows), Batches(objective.target_rows)
    averaged = max(1, round(AVERAGED * settings.rdo_steps))
    total, losses = torch.zeros_like(scaled), []
    weight, divergence = FIRST_WEIGHT, settings.rdo_max_kl
    for number in counted(range(1, settings.rdo_steps + 1), settings.rdo_steps, "gradient steps"):
        loss, scaled.grad = objective.gradient(scaled, weight, [*baseline.next(), *target.next()])
        optimizer.step()
        emit(GradientStep(number, settings.rdo_steps, weight, loss.kl, loss.share))
        divergence = REMEMBERED * divergence + (1 - REMEMBERED) * loss.kl
        weight *= _change(settings.rdo_max_kl, divergence)
        if number > settings.rdo_steps - averaged:
            total += scaled.detach()
            losses.append(loss)
    return total / averaged, mean_loss(losses)


def _change(bound: float, divergence: float) -> float:
    """What the log-odds' weight is multiplied by: more than 1 while the divergence is below its bound."""
    change = math.pow(bound / max(divergence, 1e-9), PATIENCE)
    return min(max(change, 1 / LARGEST_CHANGE), LARGEST_CHANGE)
