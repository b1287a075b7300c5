"""How far one lead reaches: trials an hour, its own work, and the front, by the number of workers.

`python benchmarks/workers.py speed [--workers 1,2,4,...] [--seconds 3] [--trials-each 3]`
`python benchmarks/workers.py front [--study FILE] [--study-name NAME] [--batches 1,8,6:45,...] [--trials 200]
[--random 40] [--seeds 5]`

`speed` has the search loop itself lead workers that only sleep as long as a trial takes (15 % more or less), one trial
at once each, on a study in a SQLite file. N workers whose trials take 3 s are as much work for the lead as 10 N whose
trials take 30 s. `front` has W x K plans on their way at any time, measured by the formula of growth.py, or by a
surrogate: extremely randomised trees fitted to the trials of a stored study, whose inputs are the plans' parameters.
Printed is the log-KL hypervolume, of the formula that of the same plans without its noise, mean and standard error, and
by how much it differs from that of the first of --batches with the same seeds, with its 95 % interval. A number of
trials may stand behind what is on its way; --random says how many of them are drawn before the sampler begins.
"""

import argparse
import heapq
import math
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from sklearn.ensemble import ExtraTreesRegressor

from growth import numbers_of, space
from heretic.engine.measurement import Measurement
from heretic.results.front import hypervolume
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialState
from heretic.search.crew import Batch, Measured
from heretic.search.loop import search
from heretic.search.pulse import Member
from heretic.search.records import stored_records
from heretic.search.sampler import make_sampler
from heretic.search.storage import Identity, open_study

BASELINE = 97.0
RANDOM_TRIALS = 40


class Sleepers:
    """A crew of workers that sleep, and answer by a formula."""

    members: tuple[Member, ...] = ()

    def __init__(self, workers: int, seconds: float) -> None:
        self._idle, self._seconds = workers, seconds
        self._ends: list[tuple[float, int, Batch]] = []
        self._draws = random.Random(0)
        self.slept = 0.0

    @property
    def free(self) -> int:
        """See Crew."""
        return int(self._idle > 0)

    def start(self, batch: Batch) -> None:
        """See Crew."""
        seconds = self._seconds * self._draws.uniform(0.85, 1.15)
        self.slept += seconds
        self._idle -= 1
        heapq.heappush(self._ends, (time.monotonic() + seconds, batch.numbers[0], batch))

    def finished(self) -> Sequence[Measured]:
        """See Crew."""
        if not self._ends:
            return []
        end, _number, batch = heapq.heappop(self._ends)
        time.sleep(max(0.0, end - time.monotonic()))
        self._idle += 1
        refusals, kl = numbers_of(batch.plans[0], batch.numbers[0])
        scores = Scores((Score("refusals", refusals, 100, BASELINE),), Score("kl", kl, 100, 0.0))
        return [Measured(batch, (Measurement(scores, TrialState.COMPLETE),), self._seconds, 0, {}, 1, "sleeper")]


def speed(workers: int, seconds: float, trials_each: int) -> dict[str, float]:
    """What a lead of so many workers gets done."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/study.db"
        study = open_study(url, "study", Identity({"model": {"parameters": "formula"}}))
        study.sampler = make_sampler(0, RANDOM_TRIALS, 0)
        crew = Sleepers(workers, seconds)
        trials = workers * trials_each
        started, worked = time.monotonic(), time.process_time()
        search(study, url, space(), crew, trials)
        wall, work = time.monotonic() - started, time.process_time() - worked
    return {
        "trials": trials,
        "an hour": 3600 * trials / wall,
        "of N": trials * seconds / workers / wall,
        "busy": crew.slept / workers / wall,
        "lead ms": 1000 * work / trials,
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


Point = tuple[float, float]
Measure = Callable[[optuna.Trial], tuple[Point, Point]]
"""Draws a trial's parameters; what is told of them, and what is true of them."""


@dataclass(frozen=True)
class Problem:
    """What a search is for, and the box whose dominated share is measured, see `hypervolume`."""

    measure: Measure
    baseline: float
    limits: tuple[float, float]


def formula(trial: optuna.Trial) -> tuple[Point, Point]:
    """That of growth.py, whose numbers have noise."""
    plan = space().suggest(trial)
    return numbers_of(plan, trial.number), numbers_of(plan, None)


def fitted(file: Path, name: str) -> Problem:
    """A surrogate of a stored study's measured trials; KL below the least of them counts as none."""
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{file.resolve()}")
    complete = {record.number: record for record in stored_records(study) if record.is_complete}
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.number in complete]
    drawn_from, first = trials[0].distributions, trials[0].params

    def row(parameters: Mapping[str, Any]) -> list[float]:
        values = ((parameters[name], first[name]) for name in sorted(drawn_from))
        return [value if isinstance(value, float) else float(value == usual) for value, usual in values]

    points = np.array([complete[trial.number].values for trial in trials], dtype=float)
    least = max(float(points[:, 1].min()), 1e-6)
    targets = np.column_stack([points[:, 0], np.log(np.maximum(points[:, 1], least))])
    model = ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0).fit(
        [row(own.params) for own in trials], targets
    )

    def measure(trial: optuna.Trial) -> tuple[Point, Point]:
        for name, distribution in drawn_from.items():
            trial._suggest(name, distribution)
        amount, log_kl = model.predict([row(trial.params)])[0]
        point = float(amount), math.exp(log_kl)
        return point, point

    (baseline,) = {score.baseline for record in complete.values() for score in record.behaviors}
    return Problem(measure, baseline, (least, float(points[:, 1].max())))


def front(problem: Problem, on_their_way: int, trials: int, seed: int, at_random: int = RANDOM_TRIALS) -> float:
    """The hypervolume after so many trials, where so many are always measured while the next is asked for."""
    study = optuna.create_study(directions=["minimize"] * 2, sampler=make_sampler(seed, at_random, 0))
    true: list[Point] = []
    waiting: list[tuple[optuna.Trial, tuple[Point, Point]]] = []
    while len(true) < trials:
        while len(waiting) < on_their_way and len(true) + len(waiting) < trials:
            trial = study.ask()
            waiting.append((trial, problem.measure(trial)))
        # The one that was asked for first ends first.
        ended, (told, own) = waiting.pop(0)
        study.tell(ended, told)
        true.append(own)
    return hypervolume(true, problem.baseline, problem.limits)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "front"))
    parser.add_argument("--workers", default="1,2,4,8,16,32,64,128")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--trials-each", type=int, default=3)
    parser.add_argument("--study")
    parser.add_argument("--study-name", default="heretic_study")
    parser.add_argument("--batches", default="1,8,16,32,64,128")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--random", type=int, default=RANDOM_TRIALS)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.what == "speed":
        for count in map(int, options.workers.split(",")):
            told = speed(count, options.seconds, options.trials_each)
            print(f"| {count} | " + " | ".join(f"{value:.4g}" for value in told.values()) + " |", flush=True)
        return
    problem = Problem(formula, BASELINE, (0.0001, 0.02))
    if options.study is not None:
        problem = fitted(Path(options.study), options.study_name)
    alone: list[float] = []
    for batch in options.batches.split(","):
        at_once, _, trials = batch.partition(":")
        volumes = [
            front(problem, int(at_once), int(trials or options.trials), seed, options.random)
            for seed in range(options.seeds)
        ]
        alone = alone or volumes
        differences = [here - there for here, there in zip(volumes, alone, strict=True)]
        print(
            f"| {batch} | {statistics.mean(volumes):.3f} ± {_error(volumes):.3f} | "
            f"{statistics.mean(differences):+.4f} ± {1.96 * _error(differences):.4f} |",
            flush=True,
        )


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
