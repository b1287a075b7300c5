"""Seconds of every step of a trial: `python benchmarks/trial_cost.py [heretic arguments]`."""

import os
import sys
import time
from itertools import pairwise
from pathlib import Path

from heretic.config import load_settings
from heretic.edits.plan import EditPlan, Normalization, Schedule, Scope
from heretic.workbench import prepare

REPETITIONS = 3


def main() -> None:
    """Prepare a model as the command line would, then time one plan step by step."""
    settings = load_settings(sys.argv[1:], os.environ, Path.cwd()).settings
    bench = prepare(settings)
    schedule = Schedule(1.0, 0.7, 0.3, 0.5)
    schedules = tuple((component, schedule) for component in bench.runner.layout.components)
    plan = EditPlan(Scope.LAYER, None, schedules, Normalization(settings.normalization))
    print("build   apply   kl      refusals  restore (seconds)")
    for _ in range(REPETITIONS):
        times = [time.perf_counter()]
        edits = bench.edits(plan)
        times.append(time.perf_counter())
        bench.editor.apply(edits)
        times.append(time.perf_counter())
        bench.kl.score()
        times.append(time.perf_counter())
        bench.refusals.score()
        times.append(time.perf_counter())
        bench.editor.restore()
        times.append(time.perf_counter())
        print("  ".join(f"{after - before:6.2f}" for before, after in pairwise(times)))


if __name__ == "__main__":
    main()
