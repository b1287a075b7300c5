"""What gradients look at: training prompts, and the tokens that answers showing the behaviour begin with."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heretic.passes.passes import Passes
from heretic.prompts.types import Prompt

BATCHES = 3
"""At most this many times the wanted number of target prompts are answered to find enough that show the behaviour."""
FEWEST = 4
"""Fewer prompts that show the behaviour say too little about it."""

Shows = Callable[[str], bool]
"""Whether an answer shows the behaviour."""
ANSWERING = "answering training prompts"
TokenRows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Onset:
    """Prompts as token ids, and how the behaviour begins.

    Attributes:
        baseline: Prompts on which predictions shall stay what they are.
        target: Prompts whose answers by the original model show the behaviour, or lack it where it is to be
            strengthened.
        tokens: First tokens of these answers, as far as they tell them from other answers; in ascending order.
    """

    baseline: TokenRows
    target: TokenRows
    tokens: tuple[int, ...]


def find_onset(
    passes: Passes,
    baseline: Sequence[Prompt],
    target: Sequence[Prompt],
    count: int,
    length: int,
    shows: Shows,
    wanted: bool = True,
) -> Onset | str:
    """Answer training prompts by the original model and see how answers that show the behaviour begin.

    Args:
        passes: Read the model.
        baseline: Training prompts without the behaviour.
        target: Training prompts with it.
        count: How many of each are wanted.
        length: Tokens of an answer that are looked at.
        shows: The judgement.
        wanted: Whether target prompts are kept whose answers show the behaviour (to remove it), or those whose answers
            do not (to strengthen it).

    Returns:
        The onset, or in words why there is none to be found.
    """
    baseline, target = _shuffled(baseline)[:count], _shuffled(target)
    shown: Counter[int] = Counter()
    baseline_rows = _encoded(passes, baseline)
    others: Counter[int] = Counter(response.tokens[0] for response in passes.answers(baseline_rows, 1, ANSWERING))
    wanted_rows: list[tuple[int, ...]] = []
    enough = min(FEWEST, count)
    for start in range(0, min(BATCHES * count, len(target)), count):
        rows = _encoded(passes, target[start : start + count])
        for row, response in zip(rows, passes.answers(rows, length, ANSWERING), strict=True):
            showing = shows(response.text)
            (shown if showing else others)[response.tokens[0]] += 1
            if showing is wanted:
                wanted_rows.append(row)
        if len(wanted_rows) >= count and shown.total() >= enough:
            break
    if shown.total() < enough:
        return f"only {shown.total()} answers to bad_prompts show the behaviour"
    if len(wanted_rows) < enough:
        return f"all answers to bad_prompts but {len(wanted_rows)} show the behaviour"
    tokens = sorted(
        token for token, times in shown.items() if times / shown.total() > others[token] / max(others.total(), 1)
    )
    if not tokens:
        return "answers that show the behaviour begin like all others"
    return Onset(baseline_rows, tuple(wanted_rows[:count]), tuple(tokens))


def _encoded(passes: Passes, prompts: Sequence[Prompt]) -> TokenRows:
    return tuple(tuple(passes.runner.encode(prompt)) for prompt in prompts)


def _shuffled(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Always the same order: files are often sorted by topic."""
    return random.Random(0).sample(list(prompts), len(prompts))
