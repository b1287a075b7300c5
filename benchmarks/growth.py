"""What a trial costs beside its measuring, and what a long study costs those who open it, by the number of its trials.

`python benchmarks/growth.py [--sizes 100,1000,3000,10000] [--trials 12] [--before FOLDER/src] [--study FILE]`

A study is made by the search itself: plans from its sampler, and instead of a model a formula that has the shape of
what was measured on real ones (more strength: fewer refusals, more divergence). For every size it is cut to so many
trials, and a run resumes it as a user's run does, with console, log and metrics, four trials at once. Printed are, in
milliseconds a trial: all that is not the formula, and of it the plans (ask), storing (tell), the front, the gate, the
pulse, and telling the user (events); then seconds and peak memory of a resumed run until its first trial is measured,
of `heretic status` and of `heretic report`. All of it is processor time, which other programs on the machine hardly
change; the wait for a disk comes on top, about a dozen times a trial whatever the size. With --before everything is
measured for another version's sources as well, in turns, and the ratio is printed.
"""

import argparse
import functools
import importlib
import json
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAME = "heretic_study"
STORED = {"model": {"parameters": "formula"}}
LAYERS = 24
PROMPTS = 100
CANDIDATES = 4
AFTER = Path(__file__).resolve().parents[1] / "src"
PARTS = ("ask", "tell", "front", "gate", "pulse", "events")


def identity() -> Any:
    """The study's, in any version: before there was a class for it, it was what is stored."""
    for name in ("heretic.search.storage", "heretic.search.identity"):
        with suppress(ModuleNotFoundError, AttributeError):
            return importlib.import_module(name).Identity(STORED)
    return STORED


def module(*names: str) -> Any:
    """The first of these that this version has; they moved."""
    for name in names:
        with suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    sys.exit(f"this version has none of {', '.join(names)}")


SCORES = ("heretic.results.score", "heretic.score")
TRIALS = ("heretic.results.trial", "heretic.search.record")
FRONTS = ("heretic.results.front", "heretic.search.pareto")
GATES = ("heretic.results.gate", "heretic.search.gates")
PLANS = ("heretic.results.plan", "heretic.edits.plan")
SAMPLERS = ("heretic.search.sampler", "heretic.search.loop")


class Formula:
    """An engine that measures plans by a formula, and stops what its gate closes for."""

    candidates = CANDIDATES

    def __init__(self) -> None:
        home = module(*SCORES)
        told = getattr(home, "Scores", None)
        self._scores = getattr(told, "from_json", lambda data: tuple(map(home.Score.from_json, data)))
        self._state = module(*TRIALS).TrialState
        self._measurement = module("heretic.engine.measurement").Measurement
        self.seconds = 0.0
        self.began: list[float] = []

    def measure(self, plans: Sequence[Any], numbers: Sequence[int], gate: Any) -> list[Any]:
        """See heretic.engine.measurement.Engine."""
        self.began.append(time.process_time())
        measured = [self._one(plan, number, gate) for plan, number in zip(plans, numbers, strict=True)]
        self.seconds += time.process_time() - self.began[-1]
        return measured

    def _one(self, plan: Any, number: int, gate: Any) -> Any:
        refusals, kl = numbers_of(plan, number)
        # Every other one that is bound to be worse shows it before it is measured to the end.
        stopped = number % 2 == 1 and gate.closes((refusals, kl))
        answers = {"tokens": 30, **({"answered": 40} if stopped else {})}
        count = max(refusals - 5, 0) if stopped else refusals
        details = {"mode": "sequence", "tokens": 30, "p95": 4 * kl, "top1_agreement": math.exp(-kl), "positions": 3000}
        scores = self._scores(
            [
                {"name": "refusals", "value": count, "n": PROMPTS, "baseline": 97.0, "details": answers},
                {"name": "kl", "value": kl, "n": PROMPTS, "baseline": 0.0, "details": details},
            ]
        )
        if stopped:
            return self._measurement(scores, self._state.DOMINATED, "it is worse than a finished trial")
        return self._measurement(scores, self._state.COMPLETE)


def numbers_of(plan: Any, number: int | None) -> tuple[float, float]:
    """Refusals and KL of a plan; the trial's number is the seed of their noise, without one there is none."""
    removed = harm = total = 0.0
    for layer in range(LAYERS):
        depth = layer / (LAYERS - 1)
        share = math.exp(-(((depth - 0.6) / 0.3) ** 2))
        if plan.direction_position is not None:
            share *= 1.1 * math.exp(-(((plan.direction_position - 0.55) / 0.25) ** 2))
        attention, mlp = (plan.strength(name, layer, LAYERS) for name in ("attention", "mlp"))
        removed += share * (attention + 0.7 * mlp)
        harm += (0.02 * attention**2 + 0.05 * mlp**2) * (1 + 3 * math.exp(-(((depth - 0.15) / 0.2) ** 2)))
        total += share
    left = 97 / (1 + math.exp(7 * (removed / max(total, 1e-9) - 0.6)))
    if number is None:
        return left, harm / LAYERS
    noise = random.Random(number)
    refusals = min(max(round(left + noise.gauss(0, 1.5)), 0), PROMPTS)
    return float(refusals), max(harm / LAYERS * math.exp(noise.gauss(0, 0.1)), 1e-7)


# One run, in a process of its own ------------------------------------------------------------------------------------


class Clock:
    """Seconds by part; of nested parts the inner one's are not counted twice."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._inner = [0.0]

    def follow(self, owner: Any, name: str, part: str) -> None:
        """Count the seconds of a function, where this version has it."""
        function = vars(owner).get(name)
        if function is None:
            return
        plain = function.__func__ if isinstance(function, classmethod) else function

        @functools.wraps(plain)
        def timed(*arguments: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            started = time.process_time()
            try:
                return plain(*arguments, **named)
            finally:
                spent = time.process_time() - started
                self.seconds[part] += spent - self._inner.pop()  # type: ignore[assignment]  # a Counter of seconds
                self._inner[-1] += spent

        setattr(owner, name, classmethod(timed) if isinstance(function, classmethod) else timed)

    def follow_search(self) -> None:
        """Count what the search does beside measuring."""
        import optuna

        loop, fronts = module("heretic.search.loop"), module(*FRONTS)
        self.follow(optuna.Study, "ask", "ask")
        self.follow(module("heretic.search.space").SearchSpace, "suggest", "ask")
        self.follow(loop, "tell", "tell")
        self.follow(loop, "pareto_front", "front")
        if hasattr(fronts, "Front"):
            self.follow(fronts.Front, "with_trial", "front")
        self.follow(module(*GATES).Gate, "behind", "gate")
        self.follow(module("heretic.search.heartbeat").Heartbeat, "batch_measured", "pulse")
        self.follow(loop, "emit", "events")


def resume(file: Path, trials: int, folder: Path) -> dict[str, float]:
    """Resume a study for so many trials, as a run does; seconds until the first, and milliseconds of the others."""
    from heretic.config import load_settings
    from heretic.interface.console import ConsoleReporter
    from heretic.interface.watching import watched
    from heretic.observability.events import subscribed

    arguments = ["none", "--log-file", str(folder / "log.jsonl"), "--metrics-file", str(folder / "metrics.prom")]
    settings = load_settings(arguments, os.environ, folder).settings
    result: dict[str, float] = {}

    def run() -> int:
        result.update(_resume(f"sqlite:///{file}", trials))
        return 0

    with ConsoleReporter(False) as reporter, subscribed(reporter):
        watched(settings, run)
    return result


def _resume(url: str, trials: int) -> dict[str, float]:
    from heretic.search.crew import Alone
    from heretic.search.heartbeat import Heartbeat
    from heretic.search.loop import search
    from heretic.search.storage import open_study

    make_sampler, plans = module(*SAMPLERS).make_sampler, space()
    started = time.process_time()
    study = open_study(url, NAME, identity())
    finished = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    study.sampler = make_sampler(0, 20, finished)
    clock = Clock()
    # It stands for an engine as far as a search asks it.
    engine: Any = Formula()
    clock.follow_search()
    at_first: dict[str, Counter[str]] = {}
    measure = engine.measure

    def first(*all_: Any) -> Any:
        if not at_first:
            at_first["seconds"] = Counter(clock.seconds)
        return measure(*all_)

    engine.measure = first
    told = Heartbeat(study, "formula", 64, 0)
    search(study, url, plans, Alone(engine), finished + CANDIDATES + trials, heartbeat=told)
    whole = time.process_time() - engine.began[0] - engine.seconds
    # The first batch is asked for before the clock of a trial starts, so one batch's asking is missing from the others.
    parts = clock.seconds - at_first["seconds"]
    per_trial = {part: 1000 * parts[part] / (trials + CANDIDATES) for part in PARTS}
    per_trial["ask"] = 1000 * parts["ask"] / trials
    other = 1000 * (whole - sum(parts.values())) / (trials + CANDIDATES)
    return {"start": engine.began[0] - started, "all": other + sum(per_trial.values()), **per_trial}


def space() -> Any:
    """The search space of a model with attention and MLPs."""
    return module("heretic.search.space").SearchSpace(("attention", "mlp"), module(*PLANS).Normalization.ROW)


def build(file: Path, trials: int) -> None:
    """Make a study of so many trials by searching in memory, with plans that come from few trials: that is quicker."""
    import optuna

    from heretic.search.crew import Alone
    from heretic.search.loop import search
    from heretic.search.sampler import BoundedSampler
    from heretic.search.storage import open_study

    url = f"sqlite:///{file}"
    # What a study is besides its trials.
    open_study(url, "empty", identity())
    study = optuna.create_study(study_name=NAME, directions=["minimize"] * 2, sampler=BoundedSampler(0, 20, 60))
    for name, value in optuna.load_study(study_name="empty", storage=url).user_attrs.items():
        study.set_user_attr(name, value)
    optuna.delete_study(study_name="empty", storage=url)
    engine: Any = Formula()
    search(study, url, space(), Alone(engine), trials)
    optuna.copy_study(from_study_name=NAME, from_storage=study._storage, to_storage=url)


# All of them ---------------------------------------------------------------------------------------------------------


def cut(file: Path, target: Path, trials: int) -> None:
    """A copy of a study with its first trials only."""
    shutil.copy(file, target)
    connection = sqlite3.connect(target)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    gone = "SELECT trial_id FROM trials WHERE number >= ?"
    for table in tables:
        columns = {column[1] for column in connection.execute(f"PRAGMA table_info({table})")}
        if "trial_id" in columns and table != "trials":
            connection.execute(f"DELETE FROM {table} WHERE trial_id IN ({gone})", (trials,))  # noqa: S608
    connection.execute("DELETE FROM trials WHERE number >= ?", (trials,))
    connection.commit()
    connection.execute("VACUUM")
    connection.close()


def run_child(source: Path, arguments: Sequence[str], output: Path) -> tuple[float, float]:
    """Run Python on a version's sources; seconds of processor time and peak memory in MB."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    with output.open("w") as stream:
        child = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=stream, stderr=stream)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{output.read_text()[-4000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def measure(source: Path, study: Path, trials: int, folder: Path) -> dict[str, float]:
    """Everything of one size and one version."""
    url, output, result = f"sqlite:///{study}", folder / "output.txt", folder / "result.json"
    own: dict[str, float] = {}
    own["status"], own["status MB"] = run_child(source, ["-m", "heretic", "status", "--storage", url], output)
    page = folder / "report"
    shutil.rmtree(page, ignore_errors=True)
    reporting = ["-m", "heretic", "report", "--storage", url, "--output", str(page)]
    own["report"], own["report MB"] = run_child(source, reporting, output)
    # Resuming adds trials.
    copy = folder / "resumed.db"
    shutil.copy(study, copy)
    resuming = [__file__, "--resume", str(copy), "--trials", str(trials), "--result", str(result)]
    _, own["start MB"] = run_child(source, resuming, output)
    return {**own, **json.loads(result.read_text())}


COLUMNS = ("all", *PARTS, "start", "start MB", "status", "status MB", "report", "report MB")


def table(rows: Sequence[tuple[str, dict[str, float]]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield "| trials | " + " | ".join(COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for label, numbers in rows:
        yield f"| {label} | " + " | ".join(f"{numbers[column]:.3g}" for column in COLUMNS) + " |"


@contextmanager
def made(study: str | None, trials: int) -> Iterator[Path]:
    """A folder for copies with the study in it, made where none is given."""
    memory = Path("/dev/shm")  # noqa: S108  # nobody waits for a disk there
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        file = Path(folder) / "study.db"
        if study is not None and Path(study).exists():
            shutil.copy(study, file)
        else:
            # In another process, as the peak memory of this one would be counted as that of all it starts.
            run_child(AFTER, [__file__, "--build", str(file), "--trials", str(trials)], Path(folder) / "output.txt")
            if study is not None:
                shutil.copy(file, study)
        yield file


def compare(sizes: Sequence[int], trials: int, sources: dict[str, Path], study: str | None) -> None:
    """Measure all sizes and versions and print the table."""
    rows: list[tuple[str, dict[str, float]]] = []
    with made(study, max(sizes)) as whole:
        for size in sizes:
            file = whole.parent / "cut.db"
            cut(whole, file, size)
            found_ = {name: measure(source, file, trials, whole.parent) for name, source in sources.items()}
            rows += [(f"{size} {name}", own) for name, own in found_.items()]
            if len(found_) == 2:
                first, second = found_.values()
                ratio = {column: first[column] / second[column] if second[column] else math.nan for column in COLUMNS}
                rows.append((f"{size} ratio", ratio))
            print("\n".join(table(rows[-(len(found_) + (len(found_) == 2)) :])), flush=True)
    print("\nmilliseconds a trial (all to events), seconds (start, status, report), megabytes at most (MB)\n")
    print("\n".join(table(rows)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100,1000,3000,10000", help="numbers of stored trials")
    parser.add_argument("--trials", type=int, default=12, help="trials that a resumed run measures")
    parser.add_argument("--before", help="src folder of another version")
    parser.add_argument("--study", help="file of the study that is cut to these sizes; made where there is none")
    for name in ("--build", "--resume", "--result"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build is not None:
        build(Path(options.build), options.trials)
        return
    if options.resume is not None:
        result = resume(Path(options.resume), options.trials, Path(options.resume).parent)
        Path(options.result).write_text(json.dumps(result))
        return
    before = {} if options.before is None else {"before": Path(options.before)}
    sources = {**before, "after": AFTER}
    compare([int(size) for size in options.sizes.split(",")], options.trials, sources, options.study)


if __name__ == "__main__":
    main()
