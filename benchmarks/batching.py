"""What it costs the search to ask for K plans before any of them is told, and to be told lower bounds by the gate.

`python benchmarks/batching.py STUDY.db [STUDY.db ...]`: real trials cannot be repeated often enough to see a loss of a
few per cent, so a regression of measured trials stands in for the model: random forests of refusals and log KL on the
strengths of every layer, fitted to all complete trials of the given studies. On it, studies of 40 trials are run for
K = 1, 2, 4, 8, 16 and 20 seeds each, with the gate off and on. What is compared is the search, not the model: the
surface has the shape and the noise of the measured trials, but not their exact values.
"""

import argparse
import statistics
from collections.abc import Sequence

import numpy as np
import optuna
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import cross_val_predict

from heretic.edits.writer import ATTENTION, MLP
from heretic.results.front import Front, hypervolume
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan, Normalization, Scope
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialRecord, TrialState
from heretic.search.records import stored_records
from heretic.search.sampler import make_sampler
from heretic.search.space import SearchSpace

LAYERS = 24
CANDIDATES = (1, 2, 4, 8, 16)


class Surrogate:
    """Refusals and KL of a plan, learned from measured trials."""

    def __init__(self, records: Sequence[TrialRecord]) -> None:
        features = np.array([features_of(record.plan) for record in records])
        self.prompts = int(records[0].behaviors[0].n)
        self.baseline = records[0].behaviors[0].baseline
        refusals = np.array([record.behaviors[0].value for record in records])
        divergence = np.log(np.array([max(record.kl.value, 1e-6) for record in records]))
        self._refusals, self._divergence = forest(), forest()
        for name, model, values in (("refusals", self._refusals, refusals), ("log KL", self._divergence, divergence)):
            held_out = cross_val_predict(model, features, values, cv=5)
            explained = 1 - ((values - held_out) ** 2).mean() / values.var()
            print(f"surrogate of {name}: {explained:.2f} of the variance explained on held-out trials")
            model.fit(features, values)

    def measure(self, plan: EditPlan) -> tuple[float, float]:
        """Refusals and KL."""
        features = [features_of(plan)]
        return round(float(self._refusals.predict(features)[0])), float(np.exp(self._divergence.predict(features)[0]))


def forest() -> ExtraTreesRegressor:
    """A regression that is smooth enough to search on."""
    return ExtraTreesRegressor(n_estimators=100, min_samples_leaf=2, random_state=0)


def features_of(plan: EditPlan) -> list[float]:
    """Strengths by component and layer, and which direction is used."""
    strengths = [plan.strength(component, layer, LAYERS) for component in (ATTENTION, MLP) for layer in range(LAYERS)]
    position = plan.direction_position
    totals = [sum(strengths[:LAYERS]), sum(strengths[LAYERS:])]
    return [*strengths, *totals, float(plan.scope is Scope.GLOBAL), 0.6 if position is None else position]


def run(surrogate: Surrogate, candidates: int, seed: int, trials: int, startup: int, gated: bool) -> float:
    """The log-KL hypervolume of one study."""
    space = SearchSpace((ATTENTION, MLP), Normalization.ROW)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=make_sampler(seed, startup, 0))
    records: list[TrialRecord] = []
    while len(records) < trials:
        asked = [study.ask() for _ in range(min(candidates, trials - len(records)))]
        plans = [space.suggest(trial) for trial in asked]
        gate = Gate.behind(Front.of(records)) if gated else Gate()
        for trial, plan in zip(asked, plans, strict=True):
            refusals, divergence = surrogate.measure(plan)
            state = TrialState.COMPLETE
            if gate.closes((0, divergence)):
                refusals, state = 0, TrialState.DOMINATED
            elif gate.limit((0, divergence)) <= refusals:
                refusals, state = int(gate.limit((0, divergence))), TrialState.DOMINATED
            scores = Scores(
                (Score("refusals", refusals, surrogate.prompts, surrogate.baseline),),
                Score("kl", divergence, surrogate.prompts, 0.0),
            )
            records.append(TrialRecord(trial.number, plan, scores, state, "", 0.0))
            study.tell(trial, [refusals, divergence])
    points = [own.values for own in records if own.state is TrialState.COMPLETE]
    return hypervolume([(values[0], values[1]) for values in points], surrogate.baseline)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--startup-trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = []
    for path in options.studies:
        url = f"sqlite:///{path}"
        for name in optuna.get_all_study_names(url):
            study = optuna.load_study(study_name=name, storage=url)
            records += [own for own in stored_records(study) if own.state is TrialState.COMPLETE]
    print(f"{len(records)} measured trials")
    surrogate = Surrogate(records)
    for gated in (False, True):
        for candidates in CANDIDATES:
            found = [
                run(surrogate, candidates, seed, options.trials, options.startup_trials, gated)
                for seed in range(options.seeds)
            ]
            error = statistics.stdev(found) / len(found) ** 0.5
            gate = "with the gate" if gated else "without the gate"
            print(f"K {candidates:2d} {gate:<17} {statistics.mean(found):.4f} +- {error:.4f}", flush=True)


if __name__ == "__main__":
    main()
