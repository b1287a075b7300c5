"""The sampler: TPE that looks at the best and the newest trials, so that a plan costs no more in a long study.

Source of TPE for several objectives: Ozaki et al., "Multiobjective Tree-Structured Parzen Estimator", JAIR 73, 2022.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from heretic.search.private_api import constraints_of, heed_constraints, known_trials, study_showing

SEEN_TRIALS = 1000
"""Measured trials that TPE looks at, at most. A study of fewer is searched as by Optuna's own sampler."""
_BETWEEN_WORKERS = 1_000_003
"""Between the seeds of two workers: more than a study has trials."""
_MEASURED = (OptunaState.COMPLETE, OptunaState.PRUNED)


def make_sampler(
    seed: int | None, n_startup_trials: int, finished: int, workers: int = 0, bounded: bool = False
) -> optuna.samplers.TPESampler:
    """Independent TPE, of one or several objectives.

    Args:
        seed: Makes a run repeatable.
        n_startup_trials: Random trials before TPE begins.
        finished: Trials that a resumed study already has: it must not draw the same random numbers again.
        workers: Workers that came before to the study: likewise, while none of their trials need be finished.
        bounded: Whether trials may break a bound.
    """
    own = None if seed is None else (seed + finished + workers * _BETWEEN_WORKERS) % 2**32
    sampler = BoundedSampler(own, n_startup_trials)
    if bounded:
        heed_constraints(sampler)
    return sampler


class BoundedSampler(optuna.samplers.TPESampler):
    """TPE that sees no more than so many trials, see `SeenTrials`.

    Plans of one batch are asked for before any of them is told: each counts as a bad one until then (``constant_liar``,
    Optuna's default from 5.0 on), or they would be much the same.
    """

    def __init__(self, seed: int | None, n_startup_trials: int, limit: int = SEEN_TRIALS) -> None:
        with warnings.catch_warnings():
            # Before 5.0 Optuna says of constant_liar that its interface may change.
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(n_startup_trials=n_startup_trials, multivariate=False, constant_liar=True, seed=seed)
        # With fewer than n_startup_trials in sight it would go on at random.
        self._limit = max(limit, 2 * n_startup_trials)
        self._view: _View | None = None

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See TPESampler. The storage is not read again for each parameter: asking for the trial has read it."""
        if self._view is None or self._view.original is not study:
            self._view = _View(study, self._limit)
        self._view.look(trial.number)
        return super().sample_independent(self._view.study, trial, param_name, param_distribution)


class _View:
    """What TPE is shown of a study: `study`, with few of its trials."""

    def __init__(self, original: optuna.Study, limit: int) -> None:
        self.original = original
        self.study = study_showing(original, lambda: self._shown)
        self._window = SeenTrials(limit)
        self._number: int | None = None
        self._shown: list[FrozenTrial] = []

    def look(self, number: int) -> None:
        """Look at what is new, once for the trial of this number."""
        if number != self._number:
            self._number = number
            self._shown = self._window.of(known_trials(self.original))


class SeenTrials:
    """Which trials of a growing study are looked at: all measured ones until there are more than `limit`.

    Then a quarter of the limit stay because they are the best, and half of it because they are the newest of the
    others, until there are too many again. Every trial is looked at once; which ones stay follows from their order
    alone, so that a resumed run sees the same.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._settled = 0
        self._measured: set[int] = set()
        self._trials: list[FrozenTrial] = []

    def of(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of all trials, in the order of their numbers, that are seen, in the same order; running ones are."""
        for trial in trials[self._settled :]:
            if trial.state in _MEASURED and trial.number not in self._measured:
                self._measured.add(trial.number)
                self._trials.append(trial)
                if len(self._trials) > self._limit:
                    self._trials = _best_and_newest(self._trials, self._limit // 4, self._limit // 2)
        while self._settled < len(trials) and trials[self._settled].state.is_finished():
            self._measured.discard(trials[self._settled].number)
            self._settled += 1
        running = [trial for trial in trials[self._settled :] if trial.state is OptunaState.RUNNING]
        return sorted([*self._trials, *running], key=_number)


def best_places(points: NDArray[np.float64], count: int) -> list[int]:
    """Places of the best points, front by front: those that no other dominates, then those that only these dominate.

    Of a front that is too large those that lie apart, its ends included; of equal points the first comes first.

    Args:
        points: [points, numbers], lower is better.
        count: How many, if there are so many.
    """
    order = np.lexsort(points.T[::-1]) if len(points) else np.array([], dtype=int)
    points = points[order]
    # Who is nowhere worse sorts before; equal ones count as dominated by the first of them.
    dominates = np.triu(np.ones((len(points), len(points)), dtype=bool), 1)
    for numbers in points.T:
        dominates &= numbers[:, None] <= numbers
    above = dominates.sum(0)
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        front = np.flatnonzero(above == 0)
        above -= dominates[front].sum(0)
        above[front] = -1
        room = count - len(chosen)
        if len(front) > room:
            front = front[np.arange(room) * (len(front) - 1) // max(room - 1, 1)]
        chosen += order[front].tolist()
    return chosen


def _number(trial: FrozenTrial) -> int:
    return trial.number


def _best_and_newest(trials: Sequence[FrozenTrial], best: int, newest: int) -> list[FrozenTrial]:
    complete = [
        trial
        for trial in trials
        if trial.state is OptunaState.COMPLETE and all(amount <= 0 for amount in constraints_of(trial))
    ]
    places = best_places(np.array([trial.values for trial in complete]), best)
    chosen = [complete[place] for place in places]
    numbers = {trial.number for trial in chosen}
    others = sorted((trial for trial in trials if trial.number not in numbers), key=_number)
    return chosen + others[-newest:]
