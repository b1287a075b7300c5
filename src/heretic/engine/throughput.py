"""How many candidates are worth measuring at once: measured, because it depends on device, dtype and model."""

import time
from collections.abc import Callable

import torch

from heretic.models.devices import synchronize
from heretic.models.memory import RanOut, attempt
from heretic.passes.ragged import KeyValues, RaggedForward

MOST_CANDIDATES = 16
HOST_ROWS = 160
"""Rows decoded at once on a CPU: beyond, its arithmetic is busy and only the gate becomes coarser."""
DEVICE_ROWS = 4096
WORTHWHILE = 0.93
"""Doubling has to bring the seconds a candidate below this share."""
STEPS = 3
ROWS_LEFT = 0.6
"""Share of the rows that is decoded on average (measured on the real model of benchmarks/README.md)."""


def most_rows(device: torch.device) -> int:
    """Rows that are decoded at once at most."""
    return HOST_ROWS if device.type == "cpu" else DEVICE_ROWS


def find_candidates(forward: RaggedForward, prefix: KeyValues, prompts: int) -> int:
    """The power of two of candidates with the fewest seconds a candidate and decoded token.

    Rows leave as their verdicts come, so fewer are decoded on average than there are prompts.

    Args:
        forward: The model.
        prefix: One row of the shared prefix.
        prompts: Rows of one candidate.
    """
    device = forward.loaded.device
    limit = most_rows(device) // max(prompts, 1)
    best, best_seconds = 1, float("inf")
    count = 1
    while count <= min(limit, MOST_CANDIDATES):
        seconds = attempt(
            _decoding(forward, prefix, max(1, int(ROWS_LEFT * count * prompts))),
            device,
            f"measuring {count} candidates at once",
        )
        if isinstance(seconds, RanOut) or seconds / count > best_seconds * WORTHWHILE:
            break
        best, best_seconds = count, seconds / count
        count *= 2
    return best


def _decoding(forward: RaggedForward, prefix: KeyValues, rows: int) -> Callable[[], float]:
    def measure() -> float:
        device = forward.loaded.device
        with torch.inference_mode():
            state = forward.start(prefix, [0] * rows)
            # Which token is read does not matter. The first pass pays for set-up.
            state.feed([[0]] * rows, [[0]] * rows)
            synchronize(device)
            best = float("inf")
            for _ in range(STEPS):
                started = time.perf_counter()
                state.feed([[0]] * rows, [[0]] * rows)
                synchronize(device)
                best = min(best, time.perf_counter() - started)
        # The fastest: other programs only ever make it slower.
        return best

    return measure
