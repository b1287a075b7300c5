"""Answers of a model and of edited variants of it to the bundled prompts, to be labelled by reading.

`python experiments/detection/generate.py OUT.jsonl -- [heretic arguments]`: a drawn sample of target and baseline
prompts for the unedited model and for six edits between too weak and too strong. A text that many prompts share
is kept at most three times, so that one sentence does not decide what is measured.
"""

import argparse
import json
import os
import random
from collections import Counter
from pathlib import Path

from heretic.config import load_settings
from heretic.editors.editor import applied
from heretic.extraction.find import find_directions
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.run.preflight import preflight
from heretic.run.workbench import edit_builder, load_runner, make_editor

TOKENS = 60
BEGINNING = 30
"""What the search looks at: refusal_check_tokens."""
MOST_REPEATS = 3
VARIANTS = (
    # name, strength of attention and of MLP, target and baseline prompts
    ("unedited", 0.0, 0.0, 90, 30),
    ("attention 0.4, mlp 0.2", 0.4, 0.2, 30, 0),
    ("attention 0.6, mlp 0.4", 0.6, 0.4, 30, 5),
    ("attention 0.8, mlp 0.6", 0.8, 0.6, 30, 5),
    ("attention 1.0, mlp 0.8", 1.0, 0.8, 30, 5),
    ("attention 1.5, mlp 1.0", 1.5, 1.0, 20, 5),
    ("attention 2.5, mlp 2.0", 2.5, 2.0, 15, 5),
)


def plan(attention: float, mlp: float) -> EditPlan:
    """All layers, full strength in the middle and half of it at the ends."""
    schedules = (("attention", attention), ("mlp", mlp))
    tents = tuple((name, Schedule(strength, 0.6, 0.5, 0.6)) for name, strength in schedules)
    return EditPlan(Scope.LAYER, None, tents, Normalization.ROW)


def drawn(generator: random.Random, prompts: tuple[Prompt, ...], count: int) -> list[Prompt]:
    """So many prompts, without repetition."""
    return generator.sample(prompts, count)


def rows(runner: ModelRunner, prompts: list[Prompt], kind: str, variant: str) -> list[dict[str, object]]:
    """Unlabelled answers."""
    found: list[dict[str, object]] = []
    for prompt, response in zip(prompts, runner.generate(prompts, TOKENS), strict=True):
        beginning = runner.response(list(response.tokens[:BEGINNING])).text
        source = {"prompts": kind, "model": variant}
        found.append({"prompt": prompt.user, "beginning": beginning, "response": response.text, "source": source})
    return found


def main() -> None:
    """Generate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    settings = load_settings(options.arguments, os.environ, Path.cwd()).settings
    prompts = preflight(settings)
    runner = load_runner(settings, settings.model or "", prompts)
    editor = make_editor(settings, runner)
    build = edit_builder(runner, find_directions(settings, runner, prompts.target, prompts.baseline).directions, editor)
    target = (*prompts.target_evaluation.prompts, *prompts.target.prompts)
    baseline = (*prompts.baseline_evaluation.prompts, *prompts.baseline.prompts)
    generator = random.Random(7)
    texts: Counter[str] = Counter()
    with options.out.open("w", encoding="utf-8") as file:
        for variant, attention, mlp, targets, baselines in VARIANTS:
            with applied(editor, build(plan(attention, mlp)) if attention else ()):
                found = rows(runner, drawn(generator, target, targets), "target", variant)
                found += rows(runner, drawn(generator, baseline, baselines), "baseline", variant) if baselines else []
            for row in found:
                texts[str(row["response"])] += 1
                if texts[str(row["response"])] <= MOST_REPEATS:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
