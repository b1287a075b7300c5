"""Adam on the strengths, for a falling price of divergence: a path of plans from mild to strong."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from heretic.extraction.batches import Batches
from heretic.extraction.gradient_objective import Objective, mean_loss
from heretic.observability.events import GradientStep, SeedFound, emit
from heretic.results.plan import EditPlan, Normalization, Scope

LEARNING_RATE = 0.1
WEIGHTS = (0.01, 0.1)
"""The mildest and the strongest weight of the log-odds."""
START = 0.3
"""Strength of every layer and component to begin with."""
AVERAGED = 0.5
"""Share of a weight's steps, at its end, whose strengths are averaged: single steps follow few prompts."""


@dataclass(frozen=True, slots=True)
class DescentOptions:
    """How long and for what.

    Attributes:
        weights: Of the log-odds against KL, rising; each starts where the one before ended.
        steps: For each weight; the first has twice as many.
        sign: 1 to remove the behaviour, -1 to strengthen it.
    """

    weights: tuple[float, ...]
    steps: int
    sign: float = 1.0


def weights_for(count: int) -> tuple[float, ...]:
    """So many weights at equal ratios; the middle for one."""
    low, high = WEIGHTS
    places = [0.5] if count == 1 else [place / (count - 1) for place in range(count)]
    return tuple(low * (high / low) ** place for place in places)


def step_count(options: DescentOptions) -> int:
    """Steps in all."""
    return options.steps * (len(options.weights) + 1)


def descend(
    objective: Objective,
    components: Sequence[str],
    layer_count: int,
    normalization: Normalization,
    options: DescentOptions,
) -> tuple[EditPlan, ...]:
    """One plan with free strengths for each weight. Emits GradientStep and SeedFound."""
    strengths = torch.full((len(components), layer_count), START * options.sign, requires_grad=True)
    optimizer = torch.optim.Adam([strengths], lr=LEARNING_RATE, betas=(0.9, 0.95))
    good, bad = Batches(objective.good_rows), Batches(objective.bad_rows)
    counts = [options.steps * (2 if place == 0 else 1) for place in range(len(options.weights))]
    plans, done = [], 0
    for weight, count in zip(options.weights, counts, strict=True):
        averaged = max(1, round(AVERAGED * count))
        total, losses = torch.zeros_like(strengths), []
        for step in range(count):
            loss, strengths.grad = objective.gradient(strengths, weight, [*good.next(), *bad.next()])
            optimizer.step()
            done += 1
            emit(GradientStep(done, step_count(options), weight, loss.kl, loss.share))
            if step >= count - averaged:
                total += strengths.detach()
                losses.append(loss)
        plans.append(_plan(total / averaged, components, normalization))
        mean = mean_loss(losses)
        emit(SeedFound(weight, count, mean.kl, mean.share))
    return tuple(plans)


def _plan(strengths: torch.Tensor, components: Sequence[str], normalization: Normalization) -> EditPlan:
    # Four digits are more than was found, and read well.
    rows = [tuple(round(value, 4) for value in row) for row in strengths.tolist()]
    return EditPlan(Scope.LAYER, None, (), normalization, tuple(zip(components, rows, strict=True)))
