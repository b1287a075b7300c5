"""Which residual position's direction works best, judged by residuals alone: COSMIC (arXiv 2506.00085).

No output text is looked at, so this serves behaviours that no marker finds. For every candidate position the direction
is taken out of the target prompts' pass and added to the baseline prompts' pass; the position whose direction turns
each class most into the other wins.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from heretic.directions.layers import cosmic_score, lowest_similarity_positions
from heretic.directions.types import DirectionSet, ResidualStatistics
from heretic.editors.editor import Editor, applied
from heretic.edits.algebra import Edit
from heretic.edits.build import build_edits
from heretic.edits.writer import ResidualWriter
from heretic.models.access import post_norm_gain
from heretic.models.private_api import layer_output, with_layer_output
from heretic.observability.steps import counted
from heretic.passes.calibration import backing_off
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope

COMPARED_SHARE = 0.1
"""Of the layers, those where the classes are least alike are compared, as in the paper."""
CLASS_PROMPTS = 32
"""Prompts of each class that are run for every candidate."""


def full_removal(
    runner: ModelRunner, directions: DirectionSet, editor: Editor, position: float | None = None
) -> tuple[Edit, ...]:
    """Edits that take directions wholly out of what every writer puts out, norms aside.

    Args:
        runner: The model.
        directions: What is taken out.
        editor: Knows the original weights.
        position: Relative depth of the direction that all layers lose; None: each its own.
    """
    everywhere = Schedule(peak_weight=1.0, peak_position=0.0, floor=1.0, width=1.0)
    plan = EditPlan(
        Scope.LAYER if position is None else Scope.GLOBAL,
        position,
        tuple((component, everywhere) for component in runner.layout.components),
        Normalization.NONE,
    )

    def gain_of(writer: ResidualWriter) -> Tensor | None:
        return post_norm_gain(runner.loaded.model, writer)

    return build_edits(plan, directions, runner.layout, editor.pristine_weight, gain_of)


def mean_residuals(runner: ModelRunner, prompts: Sequence[Prompt]) -> Tensor:
    """Mean residuals [L+1, D] fp32 of the last prompt token, in host memory.

    Raises:
        OutOfMemoryError: Not even one prompt at a time fits.
    """

    def total(fitting: ModelRunner) -> Tensor:
        sums = [residuals.float().sum(0, keepdim=True).cpu() for residuals in fitting.residuals(prompts)]
        return torch.cat(sums).sum(0)

    return backing_off(runner, total, "collecting residuals of an edited model")[0] / len(prompts)


def cosmic_scores(
    runner: ModelRunner,
    directions: DirectionSet,
    target: tuple[ResidualStatistics, Sequence[Prompt]],
    baseline: tuple[ResidualStatistics, Sequence[Prompt]],
    editor: Editor,
    layers: Sequence[int],
) -> list[float]:
    """The score of every candidate layer's direction, higher is better.

    Args:
        runner: The model.
        directions: Directions of every residual position; layer l's is at position l + 1.
        target: Statistics and prompts of the class that shows the behaviour.
        baseline: The same of the other class.
        editor: Applies and takes back the edits; the output-space editor needs no weights.
        layers: Candidates.
    """
    target_mean, baseline_mean = target[0].mean.cpu(), baseline[0].mean.cpu()
    positions = lowest_similarity_positions(target_mean, baseline_mean, COMPARED_SHARE)
    target_prompts, baseline_prompts = target[1][:CLASS_PROMPTS], baseline[1][:CLASS_PROMPTS]
    depth = max(runner.layout.layer_count - 1, 1)
    scores = []
    for layer in counted(layers, len(layers), "layers"):
        with applied(editor, full_removal(runner, directions, editor, layer / depth)):
            ablated = mean_residuals(runner, target_prompts)
        # The class difference along the direction, so that what is added is what the class has more of.
        vector = directions.vectors[layer + 1, 0].cpu()
        difference = target_mean[layer + 1] - baseline_mean[layer + 1]
        with steered(runner, layer, (difference @ vector) * vector):
            turned = mean_residuals(runner, baseline_prompts)
        scores.append(cosmic_score(ablated, turned, target_mean, baseline_mean, positions))
    return scores


@contextmanager
def steered(runner: ModelRunner, layer: int, vector: Tensor) -> Iterator[None]:
    """Add `vector` [D] to every token's output of decoder layer `layer` within a with-block."""

    def add(_module: object, _arguments: object, output: Any) -> Any:
        hidden_states = layer_output(output)
        return with_layer_output(output, hidden_states + vector.to(hidden_states))

    module = runner.loaded.model.get_submodule(runner.layout.layer_paths[layer])
    with module.register_forward_hook(add):
        yield
