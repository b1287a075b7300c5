"""The number format that gradients are computed in: the model's own, unless a CPU multiplies faster in float32."""

import copy
import time
from dataclasses import replace

import torch
from torch import Tensor

from heretic.models.access import oriented, writer_weight
from heretic.models.host_memory import free_host_memory
from heretic.passes.runner import ModelRunner

ROWS = 256
WORTHWHILE_GAIN = 1.3
"""A float32 copy has to be this much faster, because it takes time and memory to make."""
MEMORY_SHARE = 0.4
"""A float32 copy takes at most this share of the free host memory."""


def for_gradients(runner: ModelRunner) -> ModelRunner:
    """The runner, or one on a float32 copy of its model where products of one of its weights show that this pays.

    CPUs without products of half precision emulate them. Accelerators have them.
    """
    model, writers = runner.loaded.model, runner.layout.writers
    weight = oriented(writers[-1], writer_weight(model, writers[-1]).data)
    halves = (torch.bfloat16, torch.float16)
    if any(parameter.device.type != "cpu" for parameter in model.parameters()) or weight.dtype not in halves:
        return runner
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size > MEMORY_SHARE * free_host_memory():
        return runner
    if weight.dim() > 2:
        weight = weight[0]
    if product_seconds(weight) < WORTHWHILE_GAIN * product_seconds(weight.float()):
        return runner
    widened = copy.deepcopy(model)
    torch.nn.Module.float(widened)
    loaded = replace(runner.loaded, model=widened, dtype="float32")
    calibration = replace(runner.calibration, dtype="float32")
    return ModelRunner(loaded, runner.layout, runner.formatter, calibration)


def product_seconds(weight: Tensor) -> float:
    """Seconds of a forward and a backward product with a weight [D, m]; the best of three."""
    inputs = torch.ones(ROWS, weight.shape[-1], dtype=weight.dtype)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        (inputs @ weight.mT) @ weight
        seconds.append(time.perf_counter() - started)
    return min(seconds)
