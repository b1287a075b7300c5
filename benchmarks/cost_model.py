"""What a search should take on devices that are not at hand: 0.5, 8, 32 and 70 B on those of `heretic.models.cost`.

`python benchmarks/cost_model.py [--trials 200]` prints the table; `--model FOLDER --operations N` what a trial of the
benchmark's other prompts (53 + 37 behind 14 shared tokens, 30 tokens, first-token KL) takes of a model on this machine,
whose best rate, in operations a second, `benchmarks/roofline.py` measures.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from heretic.models.cost import BYTES, DEVICES, USUAL, Device, Shape, TrialWork, candidates_that_fit, trial_cost
from heretic.models.footprint import text_part

CANDIDATES, MOST = (1, 4), 16
"""Plans at once that have a column; the last one has as many as fit, but no more than the most."""
TRIAL_COST = TrialWork(53, 1, 37, 1718 / 90, 30, 14, 0.6, 4, (24 - 4.3) / 24)
"""The trial of benchmarks/roofline.py: 1,021 and 697 prompt tokens, the first edited layer 4.3 on average."""


def table(trials: int) -> None:
    """Minutes of so many trials by model, device and plans at once, where the weights fit in bfloat16."""
    heads = [*(f"K {count}" for count in CANDIDATES), f"as many as fit, at most {MOST}"]
    print(f"| model | TFLOP a trial | device | {' | '.join(heads)} |")
    print("|---|---|---|" + "---|" * len(heads))
    work = TrialWork()
    for name, model in USUAL.items():
        shape = Shape.of(model.configuration)
        # Input embeddings are as large as the output's.
        weights = BYTES * (shape.body + 2 * shape.head)
        for device in DEVICES.values():
            fits = candidates_that_fit(shape, device.memory, weights, replace(work, candidates=MOST))
            if fits < 1:
                continue
            minutes = {
                count: trials * trial_cost(shape, device, replace(work, candidates=count)).seconds / 60
                for count in (*CANDIDATES, fits)
            }
            cells = [f"{minutes[count]:.1f}" if count <= fits else "-" for count in CANDIDATES]
            operations = trial_cost(shape, device, work).operations / 1e12
            print(
                f"| {name} | {operations:.0f} | {device.name} | {' | '.join(cells)} | {minutes[fits]:.1f} (K {fits}) |"
            )


def here(model: Path, operations: float) -> None:
    """A trial of a model on this machine."""
    shape = Shape.of(text_part(json.loads((model / "config.json").read_text(encoding="utf-8"))))
    # A CPU waits for no launches, and such rates are reached by products of many rows only.
    device = Device("this machine", operations, operations, 0.0, 0.0)
    cost = trial_cost(shape, device, TRIAL_COST)
    print(
        f"{cost.operations / 1e12:.2f} TFLOP, {cost.seconds:.1f} s a trial: "
        f"{cost.divergence:.1f} predictions, {cost.prompts:.1f} prompts, {cost.decoding:.1f} answers"
    )


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--operations", type=float, help="a second, such as 450e9")
    options = parser.parse_args()
    if options.model is not None:
        here(options.model, options.operations)
    else:
        table(options.trials)


if __name__ == "__main__":
    main()
