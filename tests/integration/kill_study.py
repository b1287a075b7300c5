"""Kills runs of a demo study at random moments, and checks after each kill that nothing was lost.

    python tests/integration/kill_study.py [--kills 100] [--seed 0] [--seconds 4]

What is checked after every kill: the file is whole, numbers are consecutive, every trial that was finished before is
there with the same parameters and values, none is counted twice. In the end the same command finishes the study, no
trial is left running, and the front is that of the finished trials told to a new study.
"""

import argparse
import json
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.integration.command import QUICK_DEMO, Command, Outcome, warm_command

from heretic.results.front import pareto_front
from heretic.results.trial import TrialState
from heretic.search.records import stored_records

STUDY = "study.db"
TRIALS_A_RUN = 12
"""So many more are asked for whenever all are finished, so that there is always something to kill."""


def dying_after(seconds: float) -> str:
    """Code by which a process kills itself as `kill -9` does, whatever it is doing then."""
    return (
        "import os, signal, threading\n"
        f"timer = threading.Timer({seconds!r}, os.kill, (os.getpid(), signal.SIGKILL))\n"
        "timer.daemon = True\n"
        "timer.start()\n"
    )


def searched(outcome: Outcome) -> bool:
    """Whether a run got to the end of its search: there is no terminal to choose in."""
    return outcome.code == 2 and "There is no terminal to choose a trial in" in outcome.errors


def load(folder: Path) -> optuna.Study | None:
    """The study as the file has it; None where no run has got so far as to make it."""
    if not (folder / STUDY).exists():
        return None
    url = f"sqlite:///{folder / STUDY}"
    if not optuna.study.get_all_study_summaries(url):
        return None
    return optuna.load_study(study_name=None, storage=url)


def finished(study: optuna.Study) -> dict[int, tuple[Mapping[str, Any], list[float] | None]]:
    """Parameters and values of the trials that have a record, by number."""
    return {
        trial.number: (trial.params, trial.values if trial.state is optuna.trial.TrialState.COMPLETE else None)
        for trial in study.get_trials(deepcopy=False)
        if "record" in trial.user_attrs and trial.state.is_finished()
    }


def check_whole(folder: Path) -> None:
    """That SQLite finds nothing wrong with the file."""
    if not (folder / STUDY).exists():
        return
    connection = sqlite3.connect(folder / STUDY)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def check_front(study: optuna.Study) -> int:
    """That the front is the one of the surviving trials, told to a study that was never killed; returns its size."""
    fresh = optuna.create_study(directions=["minimize", "minimize"])
    for trial in study.get_trials(deepcopy=False):
        if trial.state is optuna.trial.TrialState.COMPLETE:
            fresh.add_trial(optuna.trial.create_trial(values=trial.values, user_attrs={"number": trial.number}))
    records = stored_records(study)
    assert len({record.number for record in records}) == len(records)
    front = {record.values for record in pareto_front(records)}
    measured = {record.number for record in records if record.state is TrialState.COMPLETE}
    best = {tuple(own.values) for own in fresh.best_trials if own.user_attrs["number"] in measured}
    assert front == best, (front, best)
    return len(front)


def kill_study(heretic: Command, folder: Path, kills: int, generator: random.Random, seconds: float) -> dict[str, Any]:
    """Run, kill, check, and again; returns what happened.

    Args:
        heretic: Starts the runs.
        folder: Where the study is.
        kills: How many.
        generator: Of the moments.
        seconds: Latest moment of a kill.
    """
    wanted, known, counts = TRIALS_A_RUN, {}, Counter[str]()
    ended: set[int] = set()
    started = time.monotonic()
    while counts["kills"] < kills:
        arguments = (*QUICK_DEMO, "--storage", f"sqlite:///{STUDY}", "--n-trials", str(wanted))
        outcome = heretic(folder, *arguments, before=dying_after(generator.uniform(0, seconds)))
        done = searched(outcome)
        assert done or outcome.code == -signal.SIGKILL, outcome.errors
        check_whole(folder)
        study = load(folder)
        if done:
            counts["runs that ended before their kill"] += 1
            wanted += TRIALS_A_RUN
        else:
            counts["kills"] += 1
            counts["kills before the study"] += study is None
        if study is None:
            continue
        trials = study.get_trials(deepcopy=False)
        assert [trial.number for trial in trials] == list(range(len(trials)))
        now = finished(study)
        assert {number: now[number] for number in known} == known
        if not done:
            running = {trial.number for trial in trials if trial.state is optuna.trial.TrialState.RUNNING}
            counts["kills in a trial"] += bool(running - ended)
            counts["trials ended by kills"] += len(running - ended)
            ended |= running
        known = now
    outcome = heretic(folder, *QUICK_DEMO, "--storage", f"sqlite:///{STUDY}", "--n-trials", str(wanted))
    assert searched(outcome), outcome.errors
    study = load(folder)
    assert study is not None
    states = Counter(trial.state.name.lower() for trial in study.get_trials(deepcopy=False))
    assert not states["running"], states
    now = finished(study)
    assert {number: now[number] for number in known} == known
    assert sum(record.state is not TrialState.FAILED for record in stored_records(study)) == wanted
    plans = Counter(json.dumps(parameters, sort_keys=True) for parameters, _values in now.values())
    assert max(plans.values()) == 1, "a plan was measured twice"
    return {
        **counts,
        "finished trials": len(now),
        "trials by state": dict(states),
        "plans tried again": sum("retried" in trial.user_attrs for trial in study.get_trials(deepcopy=False)),
        "points of the front": check_front(study),
        "seconds": round(time.monotonic() - started),
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4.0, help="latest moment of a kill")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, warm_command() as heretic:
        counts = kill_study(heretic, Path(folder), options.kills, random.Random(options.seed), options.seconds)
    sys.stdout.write(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    main()
