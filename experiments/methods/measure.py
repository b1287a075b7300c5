"""Every method on the same model, prompts, number of trials and seeds: fronts in figures.

    python experiments/methods/measure.py measure --model MODEL --results RESULTS.jsonl [--only NAME ...] [--seeds 1 2]
    python experiments/methods/measure.py table --results RESULTS.jsonl

A study is run as the product runs it, in a file of its own. What no method changes (the model, its answers, its
residuals) is made once. Results are appended study by study and never measured twice, so a run may be interrupted.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna

from heretic.common.errors import HereticError
from heretic.config import Settings, load_settings
from heretic.config.sections.section import MEASURING
from heretic.extraction import extract
from heretic.observability.events import Event, Warned, subscribed
from heretic.results.front import FEW, hypervolume, lowest_divergences, pareto_front
from heretic.run import workbench
from heretic.run.preflight import preflight
from heretic.run.study_name import without_asking
from heretic.run.warm_start import warm_start
from heretic.search.claim import Turn
from heretic.session import Session
from heretic.workflow import open_matching_study

if sys.version_info >= (3, 11):
    import tomllib
else:
    # mypy checks for the oldest Python, but runs where this backport need not be installed.
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

HERE = Path(__file__).parent


class UncheckedSession(Session):
    """A session that leaves the front's second measurement, in the weights, out."""

    def check_front(self) -> None:
        """Nothing: it takes as long as several trials and changes no result."""


CHANGES_THE_MODEL = {"--iterative-rounds"}
"""With these the model is measured while it is edited, so nothing of it may be remembered."""


class Memory:
    """Functions that return what they returned for the same arguments; of settings only those of measuring count."""

    def __init__(self) -> None:
        self.statistics_change = False

    def wrap(self, module: ModuleType, name: str) -> None:
        """Put a remembering function in the place of a module's own."""
        function: Callable[..., Any] = getattr(module, name)
        known: dict[str, Any] = {}

        def call(*arguments: Any, **keywords: Any) -> Any:
            if name == "collect_statistics" and self.statistics_change:
                return function(*arguments, **keywords)
            prompts = [own.fingerprint for own in arguments if hasattr(own, "fingerprint")]
            plain = [own for own in arguments if isinstance(own, (bool, str))]
            measured_by = [_measured_by(own) for own in arguments if isinstance(own, Settings)]
            key = repr((prompts, plain, measured_by, sorted(keywords.items())))
            if key not in known:
                known[key] = function(*arguments, **keywords)
            return known[key]

        setattr(module, name, call)


def _measured_by(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name, aspect in settings.aspects().items() if aspect == MEASURING}


def measure(options: argparse.Namespace) -> None:
    """Run what is missing and append it to the results."""
    variants: dict[str, list[str]] = tomllib.loads((HERE / "variants.toml").read_text())["variants"]
    done = {(row["variant"], row["seed"]) for row in read(options.results)}
    memory = Memory()
    memory.wrap(workbench, "load_runner")
    memory.wrap(workbench, "measure_original")
    memory.wrap(extract, "collect_statistics")
    for variant in options.only or variants:
        memory.statistics_change = bool(CHANGES_THE_MODEL & set(variants[variant]))
        missing = [seed for seed in options.seeds if (variant, seed) not in done]
        for row in run_variant(variant, variants[variant], missing, options):
            with options.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def run_variant(
    variant: str, arguments: list[str], seeds: list[int], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row a seed; a method that refuses to run gives one row with its sentence."""
    rows = []
    warnings: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Warned):
            warnings.append(event.message)

    bench = None
    for seed in seeds:
        warnings.clear()
        with tempfile.TemporaryDirectory() as scratch, subscribed(listen):
            folder = scratch if options.studies is None else options.studies
            storage = f"sqlite:///{folder}/{re.sub('[^a-z0-9]+', '-', variant)}-{seed}.db"
            # Warm starts begin with what comes with Heretic, whatever this machine's user has searched before.
            store = ["--profile-store", f"{scratch}/profiles.toml"]
            common = [*store, "--model", options.model, "--config", str(HERE / "config.toml"), "--seed", str(seed)]
            started = time.perf_counter()
            try:
                settings = load_settings([*common, "--storage", storage, *arguments], os.environ, HERE).settings
                bench = workbench.prepare(settings, preflight(settings))
                prepared = time.perf_counter()
                study = open_matching_study(bench, without_asking, ExitStack(), Turn(storage, patient=False))
                warm_start(bench, study)
                session = UncheckedSession(bench, study)
                records = session.search().records
            except HereticError as error:
                rows.append({"variant": variant, "seed": seed, "error": str(error)})
                continue
            finally:
                if bench is not None:
                    bench.editor.restore()
        (behavior,) = bench.behaviors
        baseline = behavior.baseline.value
        front = [(record.behaviors[0].value, record.kl.value) for record in pareto_front(records)]
        rows.append(
            {
                "variant": variant,
                "seed": seed,
                "baseline": baseline,
                "front": [[refusals, round(kl, 4)] for refusals, kl in front],
                "trials": len(records),
                "seconds_prepare": round(prepared - started, 1),
                "seconds_search": round(time.perf_counter() - prepared, 1),
                "warnings": list(warnings),
            }
        )
    return rows


def read(path: Path) -> list[dict[str, Any]]:
    """All rows of a results file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(options: argparse.Namespace) -> None:
    """Print the results as a Markdown table, the best mean log-KL hypervolume first."""
    by_variant: dict[str, list[dict[str, Any]]] = {}
    for row in read(options.results):
        if "error" not in row:
            by_variant.setdefault(row["variant"], []).append(row)
            row["volume"] = hypervolume(row["front"], row["baseline"])
            row["lowest"] = lowest_divergences(row["front"], row["baseline"])
    means = {name: statistics.mean(row["volume"] for row in rows) for name, rows in by_variant.items()}
    heads = [f"KL at <= {100 * share:.0f} % of the refusals" if share else "KL at no refusals" for share in FEW]
    print(f"| method | log-KL hypervolume, by seed | mean | {' | '.join(heads)} |")
    print("|---|---|---|" + "---|" * len(FEW))
    for name in sorted(means, key=lambda name: -means[name]):
        rows = sorted(by_variant[name], key=lambda row: row["seed"])
        volumes = " / ".join(f"{row['volume']:.3f}" for row in rows)
        lowest = [" / ".join(_number(row["lowest"][share]) for row in rows) for share in FEW]
        print(f"| {name} | {volumes} | {means[name]:.3f} | {' | '.join(lowest)} |")


def _number(divergence: float | None) -> str:
    return "none" if divergence is None else f"{divergence:.4f}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--model", required=True)
    measuring.add_argument("--only", nargs="*")
    measuring.add_argument("--seeds", nargs="*", type=int, default=[1, 2])
    measuring.add_argument("--studies", type=Path, help="folder in which the studies are kept")
    measuring.set_defaults(call=measure)
    showing = commands.add_parser("table")
    showing.set_defaults(call=table)
    for own in (measuring, showing):
        own.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options.call(options)


if __name__ == "__main__":
    main()
