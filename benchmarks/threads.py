"""How long passes take by the way in which OpenMP's threads wait, and by their number.

Both are read when torch is imported, hence a process for each.
Run it on a quiet machine and beside other programs: `python benchmarks/threads.py [MODEL]` (default: the demo model).
"""

import os
import subprocess
import sys
import time

POLICIES: dict[str, dict[str, str]] = {
    "default (spin)": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
ROWS, LENGTH, TOKENS, REPEATS = 32, 24, 20, 3


def measure(model_name: str) -> None:
    """Print seconds and processor seconds of answering 32 rows of 24 tokens by 20 each."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_name, dtype="auto")
    ids = torch.randint(5, 200, (ROWS, LENGTH))
    options = {"do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    model.generate(input_ids=ids, max_new_tokens=2, **options)
    started, worked = time.perf_counter(), time.process_time()
    model.generate(input_ids=ids, max_new_tokens=TOKENS, min_new_tokens=TOKENS, **options)
    print(f"{time.perf_counter() - started:.2f} {time.process_time() - worked:.2f}")


def main() -> None:
    """Measure every policy in turn, several times."""
    from heretic.models.demo import DEMO_MODEL_FOLDER

    model_name = sys.argv[1] if len(sys.argv) > 1 else str(DEMO_MODEL_FOLDER)
    decided = {name for policy in POLICIES.values() for name in policy}
    inherited = {name: value for name, value in os.environ.items() if name not in decided}
    print("| threads | seconds | processor seconds |\n|---|---|---|")
    for name, policy in POLICIES.items():
        lines = []
        for _ in range(REPEATS):
            command = [sys.executable, __file__, "--measure", model_name]
            done = subprocess.run(command, env={**inherited, **policy}, stdout=subprocess.PIPE, text=True, check=True)
            lines.append(done.stdout.split())
        print(
            f"| {name} | {', '.join(line[0] for line in lines)} | {', '.join(line[1] for line in lines)} |", flush=True
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
    else:
        main()
