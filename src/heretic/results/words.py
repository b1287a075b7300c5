"""Every label and sentence about results: console, card, report, status and picker say the same. Pure.

Names of models and of behaviours are foreign text: whoever shows a text takes out what does not belong there.
"""

import math
from collections.abc import Callable, Sequence

from heretic.results.capability import PairedAnswers, Questions
from heretic.results.front import DIVERGENCE_LIMITS, hypervolume, lowest_divergences
from heretic.results.held_out import Answers, Estimate, HeldOut, HeldOutBehavior
from heretic.results.intervals import detectable_change
from heretic.results.plan import EditPlan, Normalization
from heretic.results.score import MISSING, REFUSALS, WITHOUT, Keep, Score, Scores
from heretic.results.trial import TrialRecord

KL_ABSOLUTE_TOLERANCE = 0.0005
KL_RELATIVE_TOLERANCE = 0.02
"""A re-scored KL within either tolerance counts as the same: the weights' own precision causes as much."""
FIRST_LOOK = (
    "This was a first look (--quick): few prompts, short answers and few trials, so the numbers are rough and a whole "
    "search may find better edits."
)
"""Stands beside what such a search measured."""
UNKNOWN = "-"
"""Stands where nothing was measured."""
_WIDTH = 6
"""Columns of a mean amount."""
_NORMS = {
    Normalization.NONE: "Norms of the weights were not preserved.",
    Normalization.ROW: "Every row of an edited weight kept its norm (up to rounding).",
    Normalization.COLUMN: "Every column of an edited weight kept its norm (up to rounding).",
}


def plural(count: int, noun: str) -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def joined(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# Scores ---------------------------------------------------------------------------------------------------------------


def measured(score: Score) -> str:
    """What a behaviour's number is: ``refusals``, ``length (words)``."""
    if score.name.startswith(WITHOUT):
        return f"answers {score.label}"
    return f"{score.label} ({score.unit})" if score.unit and score.unit != score.label else score.label


def columns(scores: Scores) -> str:
    """All numbers of one trial in fixed columns: ``refusals   3/100   KL  0.0123``; ``-`` for what was not asked."""
    answers = "   ".join(f"{score.label} {_aligned(score)}" for score in scores.of_answers)
    return f"{answers}   KL {scores.kl.amount():>7}"


def _aligned(score: Score) -> str:
    """A score's value, as wide as others of its kind."""
    text = score.amount() if score.is_known else f"{UNKNOWN}/{score.n}" if score.counts_answers else UNKNOWN
    return f"{text:>{2 * len(str(score.n)) + 1 if score.counts_answers else _WIDTH}}"


def numbers(scores: Scores) -> str:
    """All numbers of one trial in a few words: ``refusals 3/100, KL 0.0123``."""
    answers = [f"{score.label} {score.amount()}" for score in scores.of_answers]
    return ", ".join([*answers, f"KL {scores.kl.amount()}"])


def numbers_beside_the_original(scores: Scores) -> str:
    """All numbers of one trial in a clause, each beside the original model's."""
    parts = [
        f"{measured(score)} {score.amount()} (original model: {score.amount(score.baseline)})"
        for score in scores.of_answers
    ]
    return f"{joined(parts)}, at a KL divergence of {scores.kl.amount()} nats from the original model"


def original(score: Score) -> str:
    """What the original model does."""
    prompts = plural(score.n, "prompt")
    if score.keep is not None:
        bound = f", of which {score.n - score.keep.allowed} have to stay" if score.keep.allowed is not None else ""
        return f"{score.label} in {score.n} of {plural(score.keep.asked, 'prompt')}{bound}"
    if score.counts_refusals:
        return f"refuses {score.baseline_refusals} of {prompts}"
    if score.counts_answers:
        return f"{score.label} in {score.baseline:.0f} of {prompts}"
    unit = score.label if score.name.startswith(MISSING) else score.unit
    return f"{score.amount(score.baseline)} {unit}, mean over {prompts}"


def same_kl(first: float, second: float) -> bool:
    """Whether two KL values differ by no more than rounding of the weights explains."""
    return math.isclose(first, second, rel_tol=KL_RELATIVE_TOLERANCE, abs_tol=KL_ABSOLUTE_TOLERANCE)


def differences(scores: Scores, searched: Scores) -> list[str]:
    """By what scores differ from those of the search, where rounding does not explain it."""
    result = []
    for score, other in zip(scores, searched, strict=True):
        difference = score.value - other.value
        if score.is_divergence:
            if not same_kl(score.value, other.value):
                result.append(f"KL {difference:+.4f}")
        elif score.counts_answers and difference:
            difference = score.told - other.told
            result.append(f"{difference:+.0f} {score.label.removesuffix('s') if abs(difference) == 1 else score.label}")
        elif not score.counts_answers and not math.isclose(score.value, other.value, rel_tol=0.01, abs_tol=0.005):
            result.append(f"{difference:+.2f} {score.unit}")
    return result


def how(score: Score, name: Callable[[str], str]) -> str:
    """How a score was measured, in one sentence; `name` marks names of models and behaviours."""
    if score.is_divergence:
        details = score.divergence
        where = "of the first response token" if details.is_first else "over the original model's own greedy answers"
        count = f", {details.positions} positions" if details.positions is not None else ""
        return (
            "KL divergence: KL(base || edited) of next-token probabilities over the full vocabulary, "
            f"{where}{count}, on prompts without the behaviour; less is less damage."
        )
    answers = score.answers
    length = f" of at most {answers.tokens} tokens" if answers.tokens is not None else ""
    reader = f"the {answers.kind} {name(answers.reader)}" if answers.kind else ""
    if not score.counts_answers:
        missing = ", what is missing of the most that is counted" if score.name.startswith(MISSING) else ""
        return (
            f"{score.label.capitalize()}: {score.unit}{missing}, mean over greedy answers{length}; "
            "less is a stronger edit."
        )
    if score.keep is not None:
        return _how_kept(score, score.keep)
    where = f" where {answers.counted.replace('{reader}', reader)}" if answers.counted else ""
    asked = f", which {reader} was asked about" if reader and not where else ""
    counted = f"counted as {name(measured(score))}{where}"
    return f"Answers: greedy ones{length}{asked}, {counted}; fewer is a stronger edit."


def kept_changed(changed: int, whole: int) -> str:
    """``2 of 40 kept answers changed``."""
    return f"{changed} of {plural(whole, 'kept answer')} changed"


def _how_kept(score: Score, keep: Keep) -> str:
    bound = "; fewer were one of the numbers that were minimised"
    if keep.allowed is not None:
        bound = f"; a trial with fewer than {score.n - keep.allowed} could not be chosen"
    answers, changed = score.answers, kept_changed(round(score.value), score.n)
    length = f" of at most {answers.tokens} tokens" if answers.tokens is not None else ""
    return (
        f"{score.label.capitalize()}: greedy answers{length} that stayed as they have to, of the {score.n} (of "
        f"{plural(keep.asked, 'prompt')}) that the original model answers so; {changed}; "
        f"more is a milder edit{bound}."
    )


# Trials ---------------------------------------------------------------------------------------------------------------


def title(record: TrialRecord) -> str:
    """One trial in a line: ``Trial 12, refusals 3/100, KL 0.0123``."""
    return f"Trial {record.shown}, {numbers(record.measured)}"


def best(scores: Scores) -> str:
    """The best trial so far, in a few words; refusals, which are what one expects, are not named."""
    parts = [f"{score.amount()}{'' if score.name == REFUSALS else f' {score.label}'}" for score in scores.of_answers]
    return f"best {', '.join(parts)} at KL {scores.kl.amount()}"


def least(scores: Scores) -> str:
    """What the best trial has least of."""
    if len(scores.behaviors) > 1:
        return "the least of all behaviours together"
    (score,) = scores.behaviors
    counted = score.counts_answers or score.unit == score.label
    return f"the {'fewest' if counted else 'least'} {measured(score) if score.counts_refusals else score.label}"


def quality(front: Sequence[TrialRecord]) -> str:
    """How good a front is, in figures that can be compared between searches of the same prompts; "" without one."""
    if not front:
        return ""
    points = [(record.measured.share, record.kl.value) for record in front]
    whole = float(len(front[0].behaviors))
    lowest = [
        f"{'no trial' if kl is None else f'{kl:.4f}'} at {f'{100 * share:.0f} % or less' if share else 'none'}"
        for share, kl in lowest_divergences(points, whole).items()
    ]
    return (
        f"The front fills {hypervolume(points, whole):.2f} of what is between KL {DIVERGENCE_LIMITS[0]} and "
        f"{DIVERGENCE_LIMITS[1]} nats on a logarithmic scale and the original model's behaviour (log-KL hypervolume). "
        f"Lowest KL by what is left of the behaviour: {', '.join(lowest)}."
    )


def outcomes(records: Sequence[TrialRecord], on_front: int) -> str:
    """How trials ended."""
    ended = [record.state.outcome for record in records]
    sentence = (
        f"{len(records)} trials: {ended.count('complete')} complete, {on_front} of them on the front; "
        f"{ended.count('stopped')} stopped early"
    )
    return f"{sentence}; {ended.count('failed')} failed." if "failed" in ended else f"{sentence}."


# Plans ----------------------------------------------------------------------------------------------------------------


def parameters(plan: EditPlan) -> dict[str, str]:
    """A plan's numbers as short text."""
    result = {"scope": plan.scope.value}
    if plan.direction_position is not None:
        result["direction position"] = f"{plan.direction_position:.2f}"
    if plan.shares:
        result["shares"] = ", ".join(f"{share:.2f}" for share in plan.shares)
    for component, schedule in plan.schedules:
        result[component] = (
            f"peak {schedule.peak_weight:.2f} at {schedule.peak_position:.2f}, "
            f"floor {schedule.floor:.2f}, width {schedule.width:.2f}"
        )
    return result


def direction(plan: EditPlan) -> str:
    """Which directions a plan uses."""
    if plan.direction_position is None:
        return "Each edited layer has its own direction."
    return f"All edited layers share the direction found at relative depth {plan.direction_position:.3f}."


def norms(plan: EditPlan) -> str:
    """What the plan left of the weights' norms."""
    return _NORMS[plan.normalization]


def shares(plan: EditPlan, behaviors: Sequence[str]) -> str:
    """What each of several behaviours has of a plan's strengths; empty for one behaviour."""
    if not plan.shares:
        return ""
    names = behaviors if len(behaviors) == len(plan.shares) else [""] * len(plan.shares)
    parts = [f"{name} {share:.3f}".strip() for name, share in zip(names, plan.shares, strict=True)]
    return f"Of these strengths each behaviour has a share: {', '.join(parts)}."


def free(plan: EditPlan) -> str:
    """What is said of a plan that only earlier versions could apply; empty for others."""
    made = "Strengths are free by layer, which only earlier versions of Heretic made; they are not drawn."
    return made if plan.strengths else ""


# Abilities ----------------------------------------------------------------------------------------------------------


def how_questioned(questions: Questions, name: Callable[[str], str]) -> tuple[str, str]:
    """How questions were asked, and what became of the answers; `name` marks the name of their source."""
    counts = sorted({count for _category, count in questions.examples})
    examples = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    overall = questions.overall
    return (
        f"Multiple-choice questions of {name(questions.source)} with four choices, after {examples} worked examples; "
        "the answer is the letter that the model finds most likely.",
        f"Answers that became wrong: {overall.became_wrong}, right: {overall.became_right} (exact McNemar test: "
        f"p = {overall.p_value:.2g}; {would_have_shown(overall)}). Differences are in percentage points, their "
        "intervals are those of pairs (Newcombe's method); guessing gives 25 %.",
    )


def how_benchmarked(limit: int | None) -> str:
    """How benchmarks were run."""
    some = f", the first {limit} items of each task" if limit is not None else ""
    return (
        f"Tasks of the Language Model Evaluation Harness with its own defaults{some}. Behind +- stand standard errors."
    )


def changed_answers(questions: Questions) -> str:
    """What became of right and wrong answers."""
    overall = questions.overall
    return (
        f"{overall.became_wrong} of {plural(overall.count, 'answer')} became wrong, {overall.became_right} became "
        f"right; {would_have_shown(overall)}"
    )


def would_have_shown(answers: PairedAnswers) -> str:
    """Which difference so many questions cannot miss but by chance."""
    return f"a difference of {100 * answers.detectable:.1f} points would have been seen, with a power of 80 %"


# Held-out prompts -----------------------------------------------------------------------------------------------------


def origin(held_out: HeldOut) -> str:
    """What the prompts are, to stand behind "on prompts"."""
    if not held_out.used_before:
        return "that neither the directions nor the search had seen"
    return f"of which {held_out.used_before} had been seen before, which confirm nothing"


def how_confirmed(held_out: HeldOut) -> str:
    """What was done to confirm an edit."""
    return (
        f"The chosen edit was measured once on prompts {origin(held_out)}, with answers of up to {held_out.tokens} "
        "tokens. An edit that only delays a behaviour shows it at the larger lengths."
    )


HOW_TO_READ_HELD_OUT = (
    "The change in pairs is that of the longest answers to the same prompts. Degenerate answers are empty, looping or "
    "in another script than the original model's. Perplexity is that of the original model reading the answers."
)


def on_held_out(found: HeldOut | Scores) -> str:
    """What held-out prompts showed, in a few words: of a confirmation at full length and over answers."""
    if isinstance(found, HeldOut):
        return _confirmed(found)
    kept = [f"{score.label} {score.amount()}" for score in found.kept]
    return ", ".join([*(score.amount() for score in found.behaviors), *kept, f"KL {found.kl.amount()}"])


def _confirmed(held_out: HeldOut) -> str:
    amounts = [number(part, part.at[-1].edited.value) for part in held_out.behaviors]
    amounts += [f"{part.label} {number(part, part.at[-1].edited.value)}" for part in held_out.kept]
    kl = [f"KL {score.amount()}" for score in held_out.kl if not score.divergence.is_first]
    return ", ".join([*amounts, *kl])


def confirmation(held_out: HeldOut) -> str:
    """What held-out prompts showed, in one sentence."""
    several = len(held_out.behaviors) > 1
    parts = [
        f"{f'{behavior.behavior}: ' if several else ''}{behavior.label} {_longest(behavior)}"
        for behavior in held_out.behaviors
    ]
    parts += [f"{part.label} {_longest(part)}" for part in held_out.kept]
    divergences = joined([f"{score.amount()} ({place(score)})" for score in held_out.kl])
    kl = f", at a KL divergence of {divergences} nats" if held_out.kl else ""
    return f"On held-out prompts, in answers of up to {held_out.tokens} tokens: {joined(parts)}{kl}."


def _longest(behavior: HeldOutBehavior) -> str:
    last = behavior.at[-1]
    edited = with_interval(number(behavior, last.edited.value), last.edited, behavior.unit).removesuffix(")")
    joint = "; " if "(" in edited else " ("
    return f"{edited}{joint}original model: {number(behavior, last.base.value)}{_unshown(behavior)})"


def _unshown(behavior: HeldOutBehavior) -> str:
    """That no change is shown, and which one would have been; "" where one is shown or pairs were not compared."""
    amount = would_have_changed(behavior)
    return f"; no change is shown, one of {amount} would have been, with a power of 80 %" if amount else ""


def would_have_changed(behavior: HeldOutBehavior) -> str:
    """Which change would have been seen where none is shown; "" where one is or pairs were not compared."""
    change = behavior.change
    if change is None or change.low == change.high or not change.low <= 0 <= change.high:
        return ""
    least = detectable_change(change.low, change.high)
    return f"{least:.2f}" if behavior.unit else f"{least:.1f}"


def place(score: Score) -> str:
    """Which tokens a divergence is of."""
    if score.divergence.is_first:
        return "first token"
    # Folders of earlier versions do not tell how many.
    tokens = score.divergence.tokens
    return "over answers" if tokens is None else f"first {tokens} tokens"


def number(behavior: HeldOutBehavior, value: float) -> str:
    """An amount on held-out prompts without its interval: ``3/40``, ``32.10``."""
    return f"{value:.2f}" if behavior.unit else f"{value:.0f}/{behavior.n}"


def with_interval(text: str, estimate: Estimate, unit: str = "") -> str:
    """A number as text with its 95 % interval: ``3/100 (95 %: 1.0 to 8.5)``."""
    if estimate.low == estimate.high:
        # Equal amounts, none at all say: their spread is unknown, not zero.
        return text
    digits = 2 if unit else 1
    return f"{text} (95 %: {estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def degenerate(answers: Answers, n: int) -> str:
    """How many of n answers are degenerate, and in which way."""
    counts = {"empty": answers.empty, "looping": answers.looping, "other script": answers.other_script}
    kinds = [(kind, count) for kind, count in counts.items() if count]
    if len(kinds) > 1:
        return f"{answers.degenerate}/{n} ({', '.join(f'{count} {kind}' for kind, count in kinds)})"
    return f"{answers.degenerate}/{n}{''.join(f', {kind}' for kind, _count in kinds)}"
