"""What is measured of a chosen trial, by ordinary and by ragged passes: long answers, and multiple-choice questions.

`python benchmarks/chosen_trial.py [--prompts N] -- [heretic arguments]`: seconds of each, and how many answers are the
same. Half-precision models give other answers where two tokens are nearly as likely: rows are padded otherwise.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from heretic.checks.held_out import perplexity
from heretic.checks.multiple_choice import answer_questions, prepare_questions, sized
from heretic.checks.questions import load_questions
from heretic.config import load_settings
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.ragged_passes import RaggedPasses
from heretic.prompts.sets import held_out_specification
from heretic.prompts.sources import load_prompt_set
from heretic.run.preflight import preflight
from heretic.run.workbench import load_runner


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    settings = load_settings(options.arguments, os.environ, Path.cwd()).settings
    sets = preflight(settings)
    ordinary = load_runner(settings, settings.model or "", sets)
    role = "bad_held_out_prompts"
    where = held_out_specification(settings, sets.behaviors[0].pack, role)
    if where is None:
        parser.error("the settings name prompts to measure with, but none to confirm with")
    prompts = load_prompt_set(role, where, settings.system_prompt).prompts[: options.prompts]
    questions = prepare_questions(ordinary, load_questions(settings), settings.system_prompt)
    tokens, count = settings.held_out_tokens, len(questions.questions)
    answers, chosen = [], []
    rows = [ordinary.encode(prompt) for prompt in prompts]
    for kind, make in (("ordinary", OrdinaryPasses), ("ragged", RaggedPasses)):
        started = time.perf_counter()
        answers.append(make(ordinary).answers(rows, tokens, "answering"))
        report(f"{len(prompts)} answers of at most {tokens} tokens, {kind}", started)
        started = time.perf_counter()
        chosen.append(answer_questions(make(sized(ordinary, questions)), questions))
        report(f"{count} questions, {kind}", started)
    print(f"the same: {same(*answers)} of {len(prompts)} answers, {same(*chosen)} of {count} choices")
    started = time.perf_counter()
    perplexity(OrdinaryPasses(ordinary), rows, answers[0])
    report("perplexity of these answers", started)


def report(what: str, started: float) -> None:
    """Print how long it took."""
    print(f"{what:<40} {time.perf_counter() - started:6.1f} s", flush=True)


def same(first: Sequence[object], second: Sequence[object]) -> int:
    """How many are equal."""
    return sum(one == other for one, other in zip(first, second, strict=True))


if __name__ == "__main__":
    main()
