"""Seconds a trial against the plain forward work, and what every part of the engine saves.

`python benchmarks/trial_cost.py [--parts N] -- [heretic arguments]`: a study of `n_trials` trials with everything on,
then with --parts N the same N random plans with each part switched off in turn.

Plain is the KL pass and the generation of the original model by ordinary passes, in the same process: the faster of two
runs, because other programs only ever make one slower.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import psutil  # type: ignore[import-untyped]  # comes with accelerate, without types
import torch

from heretic.config import Settings, load_settings
from heretic.engine.engine import Engine
from heretic.engine.factory import EngineOptions, make_engine, reference_jobs
from heretic.extraction.find import find_directions
from heretic.passes.ordinary import OrdinaryPasses
from heretic.results.front import Front, hypervolume, pareto_front
from heretic.results.gate import Gate
from heretic.results.plan import Normalization
from heretic.results.trial import TrialRecord, TrialState
from heretic.run.measuring import make_evaluators
from heretic.run.preflight import preflight
from heretic.run.workbench import edit_builder, load_runner, make_editor
from heretic.search.sampler import make_sampler
from heretic.search.space import SearchSpace

PARTS: dict[str, tuple[EngineOptions, bool]] = {
    "all parts on": (EngineOptions(), True),
    "one candidate at a time": (EngineOptions(candidates=1), True),
    "no shared prefix": (EngineOptions(shared_prefix=False), True),
    "no kept layers": (EngineOptions(kept_layers=False), True),
    "no early verdicts": (EngineOptions(early_verdicts=False), True),
    "no dominance gate": (EngineOptions(), False),
    "no ordered weights": (EngineOptions(packed_weights=False), True),
}
"""Engine options and whether the gate is on."""


class Bench:
    """One prepared model and its evaluators."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        prompts = preflight(settings)
        self.runner = load_runner(settings, settings.model or "", prompts)
        self.editor = make_editor(settings, self.runner)
        directions = find_directions(settings, self.runner, prompts.target, prompts.baseline).directions
        (behavior, *others), kl = make_evaluators(settings, OrdinaryPasses(self.runner), prompts)
        if others:
            raise TypeError("this benchmark knows one behaviour, and KL")
        self.behavior, self.kl = behavior, kl
        self.build = edit_builder(self.runner, directions, self.editor)
        self.space = SearchSpace(self.runner.layout.components, Normalization(settings.normalization))

    def plain(self) -> tuple[float, float]:
        """Seconds of the KL pass and of generation, by ordinary passes of the original model."""
        kl, answers = (min(seconds_of(work) for _ in range(2)) for work in (self.kl_alone(), self.answers_alone()))
        return kl, answers

    def kl_alone(self) -> Callable[[], object]:
        """The KL pass over the original model, which is read once before."""
        jobs = reference_jobs(self.runner, (), self.kl)
        jobs.remember()
        return lambda: jobs.present_scores(None, "measuring KL")

    def answers_alone(self) -> Callable[[], object]:
        """Generation."""
        rows = [self.runner.encode(prompt) for prompt in self.behavior.prompts]
        return lambda: self.runner.answers(rows, self.behavior.tokens)

    def engine(self, options: EngineOptions, unless: str = "") -> Engine:
        """A batched engine with some parts off; with a reason the one in place."""
        engine = make_engine(self.runner, self.build, self.editor, (self.behavior,), self.kl, options, unless)
        if engine.is_reference and not unless:
            sys.exit(f"no batched engine: {engine.slower[0]}")
        return engine

    def study(
        self, engine: Engine, trials: int, random_trials: int, gated: bool
    ) -> tuple[list[TrialRecord], Counter[str]]:
        """Run a study in memory; its records and the seconds of every step."""
        steps: Counter[str] = Counter()
        timed(engine, "_build", "build", steps)
        timed(engine._jobs.divergences, "run", "kl", steps)
        timed(engine._jobs.answers[0], "run", "answers", steps)
        study = optuna.create_study(
            directions=["minimize"] * 2, sampler=make_sampler(self.settings.seed, random_trials, 0)
        )
        records: list[TrialRecord] = []
        while len(records) < trials:
            asked = [study.ask() for _ in range(min(engine.candidates, trials - len(records)))]
            plans = [self.space.suggest(trial) for trial in asked]
            gate = Gate.behind(Front.of(records)) if gated else Gate()
            started = time.perf_counter()
            found = engine.measure(plans, [trial.number for trial in asked], gate)
            seconds = (time.perf_counter() - started) / len(asked)
            for trial, plan, own in zip(asked, plans, found, strict=True):
                record = TrialRecord(trial.number, plan, own.scores, own.state, own.reason, seconds)
                records.append(record)
                study.tell(trial, list(record.values))
        return records, steps


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def timed(owner: object, name: str, step: str, steps: Counter[str]) -> None:
    """Count the seconds of a method."""
    method = getattr(owner, name)

    def wrapped(*arguments: object) -> object:
        started = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            steps[step] += time.perf_counter() - started  # type: ignore[assignment]  # a Counter of seconds

    setattr(owner, name, wrapped)


def row(name: str, records: list[TrialRecord], steps: Counter[str], plain: float, candidates: int) -> str:
    """One line of the table."""
    mean = sum(record.seconds for record in records) / len(records)
    stopped = sum(record.state is TrialState.DOMINATED for record in records)
    each = "  ".join(f"{step} {steps[step] / len(records):.2f}" for step in ("build", "kl", "answers"))
    cost = f"{mean:7.2f} s  {mean / plain:5.2f} x plain"
    return f"{name:<24} K {candidates:<3} {cost}   stopped {stopped}/{len(records)}   {each}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=0, help="random plans for every part")
    parser.add_argument("--in-place", type=int, default=0, help="random plans for the in-place engine")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    settings = load_settings(options.arguments, os.environ, Path.cwd()).settings
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bench = Bench(settings)
    kl, generation = bench.plain()
    plain = kl + generation
    dtype = next(bench.runner.loaded.model.parameters()).dtype
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {dtype}, KL {settings.kl_mode}")
    print(f"plain: KL {kl:.2f} s + generation {generation:.2f} s = {plain:.2f} s", flush=True)
    original = bench.behavior.baseline
    baseline = original.value
    if settings.n_trials > 1:
        engine = bench.engine(EngineOptions())
        records, steps = bench.study(engine, settings.n_trials, settings.n_startup_trials, True)
        print(row(f"study of {len(records)} trials", records, steps, plain, engine.candidates))
        points = [(own.values[0], own.values[1]) for own in pareto_front(records)]
        print(f"log-KL hypervolume {hypervolume(points, baseline):.4f} ({original.label} <= {baseline:.4g})")
        front = ", ".join(f"{own.values[0]:.4g} at {own.values[1]:.4f}" for own in pareto_front(records))
        print(f"front: {front}", flush=True)
    for name, (own, gated) in PARTS.items() if options.parts else ():
        engine = bench.engine(own)
        records, steps = bench.study(engine, options.parts, options.parts, gated)
        print(row(name, records, steps, plain, engine.candidates), flush=True)
    if options.in_place:
        reference = bench.engine(EngineOptions(), "the reference is measured")
        records, steps = bench.study(reference, options.in_place, options.in_place, False)
        print(row("in place", records, steps, plain, 1))
    print(f"peak memory {psutil.Process().memory_info().rss / 1e9:.1f} GB resident now")


if __name__ == "__main__":
    main()
