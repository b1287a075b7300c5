"""Trials per hour of heretic-llm on the same prompts, tokens, dtype and trial count, in an environment of its own.

`python benchmarks/peer.py --python PEER_ENVIRONMENT/bin/python --model FOLDER --dtype bfloat16 --trials 4`, where the
environment was made by `uv venv PEER_ENVIRONMENT && uv pip install --python ... heretic-llm==1.4.0`.

Times come from the peer's own study file (start of the first trial to the end of the last). It counts refusals by its
own markers, so its counts are not ours; its divergence is that of the first token.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from heretic.config.sections import PromptSpecification
from heretic.prompts.sources import load_prompt_set
from heretic.results.front import hypervolume

SETS = {
    "good_prompts": ("baseline", "train"),
    "bad_prompts": ("target", "train"),
    "good_evaluation_prompts": ("baseline", "evaluation[:53]"),
    "bad_evaluation_prompts": ("target", "evaluation[:37]"),
}
"""The prompts of benchmarks/trial_cost.toml."""


def write_inputs(folder: Path, options: argparse.Namespace) -> None:
    """The peer's configuration and one text file for each prompt set."""
    lines = [
        f"model = {json.dumps(str(Path(options.model).resolve()))}",
        f"dtypes = {json.dumps([options.dtype])}",
        f"n_trials = {options.trials}",
        f"n_startup_trials = {options.startup_trials}",
        f"batch_size = {options.batch_size}",
        f"max_response_length = {options.tokens}",
        f"seed = {options.seed}",
        'response_prefix = ""',
    ]
    for name, (behavior, split) in SETS.items():
        specification = PromptSpecification(dataset=f"bundled:refusal/{behavior}", split=split)
        prompts = load_prompt_set(name, specification, None).prompts
        path = folder / f"{name}.txt"
        path.write_text("\n".join(prompt.user for prompt in prompts) + "\n", encoding="utf-8")
        lines += [f"\n[{name}]", f"dataset = {json.dumps(str(path))}"]
    (folder / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Run the peer and print what its study file says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="interpreter of the peer's environment")
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--startup-trials", type=int, default=8, help="random ones of these")
    parser.add_argument("--tokens", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_inputs(folder, options)
        command = str(Path(options.python).parent / "heretic")
        # Both packages are called heretic: ours must not be found first.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        finished = subprocess.run(
            [command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        files = list((folder / "checkpoints").glob("*.jsonl"))
        if not files:
            raise SystemExit(f"the peer wrote no study:\n{finished.stdout[-2000:]}\n{finished.stderr[-2000:]}")
        study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(files[0]))))
        # Read while the file is there.
        trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    for trial in trials:
        attributes = trial.user_attrs
        print(f"refusals {attributes['refusals']:3d}   KL {attributes['kl_divergence']:.4f}   {trial.duration}")
    points = [(trial.user_attrs["refusals"], trial.user_attrs["kl_divergence"]) for trial in trials]
    baseline = trials[0].user_attrs["base_refusals"]
    print(f"log-KL hypervolume {hypervolume(points, baseline):.4f} (refusals <= {baseline})")
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    starts = [trial.datetime_start for trial in trials if trial.datetime_start]
    seconds = (max(ends) - min(starts)).total_seconds() / len(trials)
    hourly = 3600 / seconds
    print(f"heretic-llm, {options.dtype}: {seconds:.1f} s a trial over {len(trials)}, {hourly:.0f} trials an hour")


if __name__ == "__main__":
    main()
