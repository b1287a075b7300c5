"""Seconds a trial and peak memory against K, prompts, tokens, layers and hidden size, on random models.

`python benchmarks/scaling.py [--device cpu] [--dtype float32]`. The gate is open and no answer refuses, so every trial
is measured to the end: the cost of a trial may not grow with K.
"""

import argparse
import resource
import sys
import time
from dataclasses import replace

import torch

from heretic.engine.factory import EngineOptions
from heretic.results.gate import Gate
from random_model import Prepared, Shape, plans, prepare

REPETITIONS = 2


def seconds_a_trial(prepared: Prepared, count: int) -> float:
    """The fastest of some measurements of `count` plans at once."""
    engine = prepared.engine(EngineOptions(candidates=count))
    if engine.is_reference:
        sys.exit(f"no batched engine: {engine.slower[0]}")
    best = float("inf")
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        engine.measure(plans(count), list(range(count)), Gate())
        best = min(best, (time.perf_counter() - started) / count)
    return best


def peak_gigabytes(device: str) -> float:
    """Most memory held so far: of the device, or of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Vary one size after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    base = Shape()
    print(f"torch {torch.__version__}, {options.device}, {options.dtype}, {torch.get_num_threads()} threads, {base}")
    prepared = prepare(base, options.device, dtype)
    for count in (1, 2, 4, 8, 16):
        seconds = seconds_a_trial(prepared, count)
        print(f"K {count:<13}{seconds:7.3f} s a trial   peak {peak_gigabytes(options.device):.2f} GB", flush=True)
    variations = (
        ("prompts", (25, 100)),
        ("tokens", (10, 60)),
        ("layers", (4, 16)),
        ("hidden", (256, 1024)),
    )
    for name, values in variations:
        for value in values:
            shape = replace(base, **{name: value})
            seconds = seconds_a_trial(prepare(shape, options.device, dtype), 4)
            print(f"{name:<8} {value:<6}{seconds:7.3f} s a trial (K 4)   peak {peak_gigabytes(options.device):.2f} GB")


if __name__ == "__main__":
    main()
