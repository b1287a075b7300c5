"""What gradients look at: training prompts, and the tokens that answers showing the behaviour begin with."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

BATCHES = 3
"""At most this many times the wanted number of target prompts are answered to find enough that show the behaviour."""
FEWEST = 4
"""Fewer prompts that show the behaviour say too little about it."""

Shows = Callable[[str], bool]
"""Whether an answer shows the behaviour."""
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
    runner: ModelRunner,
    baseline: Sequence[Prompt],
    target: Sequence[Prompt],
    count: int,
    length: int,
    shows: Shows,
    wanted: bool = True,
) -> Onset | str:
    """Answer training prompts by the original model and see how answers that show the behaviour begin.

    Args:
        runner: The model.
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
    others: Counter[int] = Counter(response.tokens[0] for response in runner.generate(baseline, 1))
    wanted_prompts: list[Prompt] = []
    enough = min(FEWEST, count)
    for start in range(0, min(BATCHES * count, len(target)), count):
        prompts = target[start : start + count]
        for prompt, response in zip(prompts, runner.generate(prompts, length), strict=True):
            showing = shows(response.text)
            (shown if showing else others)[response.tokens[0]] += 1
            if showing is wanted:
                wanted_prompts.append(prompt)
        if len(wanted_prompts) >= count and shown.total() >= enough:
            break
    if shown.total() < enough:
        return f"only {shown.total()} answers to bad_prompts show the behaviour"
    if len(wanted_prompts) < enough:
        return f"all answers to bad_prompts but {len(wanted_prompts)} show the behaviour"
    tokens = sorted(
        token for token, times in shown.items() if times / shown.total() > others[token] / max(others.total(), 1)
    )
    if not tokens:
        return "answers that show the behaviour begin like all others"
    return Onset(_encoded(runner, baseline), _encoded(runner, wanted_prompts[:count]), tuple(tokens))


def _encoded(runner: ModelRunner, prompts: Sequence[Prompt]) -> TokenRows:
    return tuple(tuple(runner.encode(prompt)) for prompt in prompts)


def _shuffled(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Always the same order: files are often sorted by topic."""
    return random.Random(0).sample(list(prompts), len(prompts))
