"""What it costs the search that its sampler looks at some trials only: the front that is left, by how many it looks at.

`python benchmarks/seen_trials.py [--limits 250,500,1000,0] [--trials 2000] [--seeds 4] [--problems formula,smooth]`

Studies in memory, plans asked for four at once. `formula` is the one of growth.py: it tells whole refusals and a KL
with noise, and what counts is the front of the same plans without noise. `smooth` is ZDT1 (Zitzler, Deb and Thiele,
2000) in eight numbers with its optimum inside the box, whose front has no gaps. Printed is the hypervolume with the
logarithm of the second number, a share of the box (0.502 is all that there is of `smooth`), after so many trials, mean
and standard error over the seeds, and the mean processor milliseconds of a plan up to the last mark. Limit 0 looks at
all trials, as Optuna does.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import optuna
from optuna.trial import Trial

from growth import numbers_of, space
from heretic.results.front import hypervolume
from heretic.search.sampler import BoundedSampler

Point = tuple[float, float]
BATCH = 4


def formula(trial: Trial) -> tuple[Point, Point]:
    """What is told and what is true of a plan of our search space."""
    plan = space().suggest(trial)
    return numbers_of(plan, trial.number), numbers_of(plan, None)


def smooth(trial: Trial) -> tuple[Point, Point]:
    """ZDT1, its optimum inside the box."""
    first, *others = [trial.suggest_float(f"x{index}", 0, 1) for index in range(8)]
    best = (0.3, 0.55, 0.7, 0.2, 0.8, 0.5, 0.4)
    away = 1 + 24 * statistics.mean((x - own) ** 2 for x, own in zip(others, best, strict=True))
    point = first, away * (1 - math.sqrt(first / away))
    return point, point


PROBLEMS: dict[str, tuple[Callable[[Trial], tuple[Point, Point]], float, tuple[float, float]]] = {
    "formula": (formula, 97.0, (0.0001, 0.02)),
    "smooth": (smooth, 1.1, (0.01, 3.0)),
}
"""By name: the problem, and the box whose dominated share is measured, see `hypervolume`."""


def run(problem: str, limit: int, seed: int, marks: Sequence[int]) -> tuple[list[float], list[float]]:
    """Hypervolume after so many trials, and milliseconds of a plan up to there from the mark before."""
    measure, baseline, limits = PROBLEMS[problem]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=BoundedSampler(seed, 40, limit or 10**9))
    true: list[Point] = []
    volumes, milliseconds = [], []
    for before, mark in zip((0, *marks), marks, strict=False):
        started = time.process_time()
        while len(true) < mark:
            asked = [study.ask() for _ in range(BATCH)]
            points = [measure(trial) for trial in asked]
            for trial, (told, own) in zip(asked, points, strict=True):
                study.tell(trial, told)
                true.append(own)
        milliseconds.append(1000 * (time.process_time() - started) / (mark - before))
        volumes.append(hypervolume(true, baseline, limits))
    return volumes, milliseconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", default="250,500,1000,0")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    marks = [mark for mark in (500, 1000, 2000, 3000, 5000) if mark < options.trials] + [options.trials]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for problem in options.problems.split(","):
        print(
            f"| {problem}: looks at | " + " | ".join(f"{mark} trials" for mark in marks) + " | ms a plan |", flush=True
        )
        for limit in map(int, options.limits.split(",")):
            with ProcessPoolExecutor(options.processes) as pool:
                runs = list(pool.map(run, *zip(*((problem, limit, seed, marks) for seed in seeds), strict=True)))
            cells = [summary([volumes[index] for volumes, _ in runs]) for index in range(len(marks))]
            spent = statistics.mean(own for _, milliseconds in runs for own in milliseconds[-1:])
            print(f"| {limit or 'all'} | " + " | ".join(cells) + f" | {spent:.0f} |", flush=True)


def summary(values: Sequence[float]) -> str:
    """Mean and standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.4f} ± {error:.4f}"


if __name__ == "__main__":
    main()
