"""The batched engine against editing in place with ordinary `generate`, for K = 1 to 16.

`python benchmarks/gpu.py`: a random model of 8 B shape in bfloat16, 100 + 100 prompts, 100 tokens, where there is a
CUDA device; a small shape on the CPU elsewhere, so that the benchmark is known to work.
"""

import time

import torch

from heretic.engine.factory import EngineOptions
from heretic.results.gate import Gate
from random_model import EIGHT_BILLION, Shape, plans, prepare
from scaling import peak_gigabytes, seconds_a_trial


def main() -> None:
    """Measure and print."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape, dtype = (EIGHT_BILLION, torch.bfloat16) if device == "cuda" else (Shape(), torch.float32)
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {name}, {dtype}, {shape}", flush=True)
    prepared = prepare(shape, device, dtype, batch_size=shape.prompts)
    reference = prepared.engine(EngineOptions(), "the reference is measured")
    started = time.perf_counter()
    reference.measure(plans(1), [0], Gate())
    in_place = time.perf_counter() - started
    print(f"in place     {in_place:8.3f} s a trial", flush=True)
    for count in (1, 2, 4, 8, 16):
        seconds = seconds_a_trial(prepared, count)
        peak = peak_gigabytes(device)
        print(
            f"batched K {count:<3}{seconds:8.3f} s a trial   {in_place / seconds:5.1f} x   peak {peak:.1f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
