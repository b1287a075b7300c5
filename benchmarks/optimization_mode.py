"""Two objectives or one: the same seeds and numbers of trials, compared by the front that is left.

`python benchmarks/optimization_mode.py [--seeds 1,2] [--arms multi,single,...] [--kl-weight 1] -- [heretic arguments]`

Log-KL hypervolume: see `results/front.py`. Also the lowest KL at half of the original model's count, a tenth and none,
and the seconds that trials took, since stopped ones are cheaper.
"""

import argparse
import os
import sys
from pathlib import Path

import optuna

from heretic.config import load_settings
from heretic.engine.factory import EngineOptions, make_engine
from heretic.passes.choose import ordinary_wanted
from heretic.results.front import FEW, hypervolume, knee, lowest_divergences, pareto_front
from heretic.results.objective import Objective
from heretic.results.trial import TrialRecord, TrialState
from heretic.run.preflight import preflight
from heretic.run.workbench import Workbench, edit_builder, prepare
from heretic.search.crew import Alone
from heretic.search.loop import search
from heretic.search.profiles import shipped_profiles
from heretic.search.sampler import make_sampler
from heretic.search.seeding import enqueue_plan

ARMS = ("multi", "multi-warm", "single", "single-unpruned")
"""`multi-warm` first tries the shipped plans of --profile."""


def objective_of(arm: str, kl_weight: float) -> Objective:
    """What an arm minimises."""
    return Objective() if arm.startswith("multi") else Objective(kl_weight, prunes=arm == "single")


def run(bench: Workbench, arm: str, seed: int, kl_weight: float, profile: str) -> tuple[TrialRecord, ...]:
    """One study in memory, by an engine that remembers nothing of other studies."""
    objective = objective_of(arm, kl_weight)
    settings = bench.settings
    study = optuna.create_study(
        directions=["minimize"] * objective.count, sampler=make_sampler(seed, settings.n_startup_trials, 0)
    )
    if arm == "multi-warm":
        for own in shipped_profiles(profile)[: settings.warm_start_n_trials]:
            enqueue_plan(study, bench.space, own.edit_plan(bench.space.normalization), "benchmark")
    build = edit_builder(bench.runner, bench.directions, bench.editor)
    kl, options = bench.engine.reference.divergences.kl.anew(), EngineOptions(settings.candidates)
    unless = ordinary_wanted(settings)
    engine = make_engine(bench.runner, build, bench.editor, bench.behaviors, kl, options, unless)
    return search(study, "sqlite://", bench.space, Alone(engine), settings.n_trials, objective).records


def line(arm: str, seed: int, records: tuple[TrialRecord, ...], baseline: float) -> str:
    """One row of the table."""
    front = [(record.behaviors[0].value, record.kl.value) for record in pareto_front(records)]
    choice = knee(records)
    stopped = sum(record.state in (TrialState.DOMINATED, TrialState.PRUNED) for record in records)
    seconds = sum(record.seconds for record in records) / len(records)
    divergences = lowest_divergences(front, baseline)
    lowest = " / ".join("none" if divergences[share] is None else f"{divergences[share]:.4f}" for share in FEW)
    return (
        f"{arm:<16} seed {seed}  log-KL hypervolume {hypervolume(front, baseline):.4f}  KL {lowest}  "
        f"knee {choice.behaviors[0].value:.4g} at {choice.kl.value:.4f}  front {len(front)}  "
        f"stopped {stopped}/{len(records)}  {seconds:.2f} s a trial"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--kl-weight", type=float, default=1.0)
    parser.add_argument("--profile", default="others", help="family whose shipped plans multi-warm begins with")
    parser.add_argument("--plans", action="store_true", help="also print the plans near the knee")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    settings = load_settings(options.arguments, os.environ, Path.cwd()).settings
    bench = prepare(settings, preflight(settings))
    if len(bench.behaviors) > 1:
        sys.exit("fronts are compared by one behaviour and KL; name one with --behavior")
    baseline = bench.behaviors[0].baseline.value
    print(f"{settings.n_trials} trials, {settings.n_startup_trials} of them random; the original model: {baseline:.4g}")
    for seed in map(int, options.seeds.split(",")):
        for arm in options.arms.split(","):
            records = run(bench, arm, seed, options.kl_weight, options.profile)
            print(line(arm, seed, records, baseline), flush=True)
            if options.plans:
                for record in pareto_front(records):
                    amount, kl = record.behaviors[0].value, record.kl.value
                    print(f"    {amount:.4g} at {kl:.4f}: {record.plan.to_json()}")


if __name__ == "__main__":
    main()
