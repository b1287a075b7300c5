"""`use_activation_calibration`: strengths follow how strongly each layer speaks along its direction."""

import torch

from heretic.config import Settings
from heretic.directions.activation import activation_factors, projection_lengths
from heretic.directions.types import DirectionSet
from heretic.passes.calibration import backing_off
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import PromptSet


def calibrated_factors(
    settings: Settings, runner: ModelRunner, target: PromptSet, directions: DirectionSet
) -> tuple[float, ...]:
    """By layer what its strength is multiplied by, see `directions.activation`.

    Args:
        settings: Percentile and bounds.
        runner: The unedited model.
        target: Training prompts that show the behaviour.
        directions: What is removed.
    """

    def collect(fitting: ModelRunner) -> torch.Tensor:
        batches = [
            projection_lengths(residuals, directions.vectors.to(residuals.device)).cpu()
            for residuals in fitting.residuals(target.prompts)
        ]
        return torch.cat(batches)

    lengths, _runner = backing_off(runner, collect, "measuring activations")
    return activation_factors(
        lengths, settings.activation_percentile, settings.activation_factor_min, settings.activation_factor_max
    )


def factors_note(factors: tuple[float, ...]) -> str:
    """The factors in a sentence."""
    low, high = min(range(len(factors)), key=factors.__getitem__), max(range(len(factors)), key=factors.__getitem__)
    return (
        "Strengths were multiplied, layer by layer, by how strongly the layer is active along its direction: by "
        f"{factors[low]:.2f} (layer {low}) to {factors[high]:.2f} (layer {high})."
    )
