"""How much of a trial's time is arithmetic at the machine's best rate: what factor is reachable at all.

`python benchmarks/roofline.py [--trials N] -- [heretic arguments]`: the best rate of the model's own matrix products at
several numbers of rows, the operations of the plain forward work and of N random plans (products with weights only,
counted as they run), and what share of the seconds they would take at that rate. Attention itself, norms, and looking
for the most likely token count as nothing.
"""

import argparse
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import torch
from torch import Tensor, nn

from heretic.config import load_settings
from heretic.engine.factory import EngineOptions
from heretic.passes.packed import PackedLinears
from trial_cost import Bench, seconds_of

ROWS = (16, 37, 74, 148, 512, 1400)
REPEATS = 12


def best_rates(model: nn.Module) -> dict[str, dict[int, float]]:
    """GFLOP/s of the fastest of several ordered products, by weight shape and rows."""
    shapes: dict[str, nn.Linear] = {}
    for module in model.modules():
        if type(module) is nn.Linear:
            shapes.setdefault(f"{module.out_features} x {module.in_features}", module)
    packed = PackedLinears(nn.ModuleList(shapes.values()))
    found: dict[str, dict[int, float]] = {}
    with torch.inference_mode(), packed.active():
        for name, module in shapes.items():
            # What the output embeddings put out for more rows is not worth the memory.
            rows = [own for own in ROWS if own * module.out_features < 5e7]
            found[name] = {own: rate(module, own) for own in rows}
    return found


def rate(module: nn.Linear, rows: int) -> float:
    """GFLOP/s of the fastest product."""
    inputs = torch.randn(rows, module.in_features, dtype=module.weight.dtype)
    best = min(seconds_of(lambda: module(inputs)) for _ in range(REPEATS))
    return 2 * rows * module.weight.numel() / best / 1e9


class Operations:
    """Counts the operations of products with weights while they run."""

    def __init__(self, model: nn.Module) -> None:
        self.count: Counter[str] = Counter()
        self.step = ""
        for module in model.modules():
            if type(module) is nn.Linear:
                module.register_forward_hook(self._add)

    def _add(self, module: nn.Module, arguments: tuple[Tensor, ...], _output: Any) -> None:
        weight: Any = module.weight
        self.count[self.step] += 2 * weight.numel() * (arguments[0].numel() // arguments[0].shape[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    settings = load_settings(options.arguments, os.environ, Path.cwd()).settings
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bench = Bench(settings)
    model = bench.runner.loaded.model
    rates = best_rates(model)
    for name, own in rates.items():
        print(f"{name:<16} " + ", ".join(f"{rows} rows {value:.0f}" for rows, value in own.items()), flush=True)
    peak = max(value for own in rates.values() for value in own.values())
    operations = Operations(model)
    seconds: Counter[str] = Counter()

    def watch(owner: object, name: str, step: str) -> None:
        method = getattr(owner, name)

        def wrapped(*arguments: object) -> object:
            operations.step, started = step, time.perf_counter()
            result = method(*arguments)
            seconds[step] += time.perf_counter() - started  # type: ignore[assignment]  # a Counter of seconds
            return result

        setattr(owner, name, wrapped)

    for step, work in (("plain KL", bench.kl_alone()), ("plain generation", bench.answers_alone())):
        operations.step = step
        seconds[step] = seconds_of(work)  # type: ignore[assignment]  # a Counter of seconds
    engine = bench.engine(EngineOptions(candidates=options.candidates))
    operations.step = "other"
    watch(engine._jobs.divergences, "run", "trial KL")
    watch(engine._jobs.answers[0], "run", "trial answers")
    records, _ = bench.study(engine, options.trials, options.trials, True)
    print(f"peak {peak:.0f} GFLOP/s, {torch.get_num_threads()} threads, K {engine.candidates}")
    for step in ("plain KL", "plain generation", "trial KL", "trial answers"):
        share = len(records) if step.startswith("trial") else 1
        needed = operations.count[step] / share / peak / 1e9
        spent = seconds[step] / share
        print(
            f"{step:<18} {operations.count[step] / share / 1e12:.3f} TFLOP  {needed:.2f} s at peak  {spent:.2f} s spent"
        )


if __name__ == "__main__":
    main()
