"""Two trials beside each other, prompt by prompt: which of their differences noise explains. Pure."""

from collections.abc import Sequence

from heretic.results.held_out import Estimate
from heretic.results.intervals import detectable_change, difference_interval, resampled_interval
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialRecord
from heretic.results.words import joined


def kl_interval(kl: Score) -> tuple[float, float] | None:
    """95 % interval of a KL divergence over prompts, in nats; None where only its mean is known."""
    by_prompt = kl.divergence.by_prompt
    return resampled_interval(by_prompt) if by_prompt else None


def interval_text(kl: Score) -> str:
    """``0.0100 to 0.0150``; empty where only the mean is known, or it is the same on every prompt."""
    interval = kl_interval(kl)
    if interval is None or interval[0] == interval[1]:
        return ""
    low, high = map(kl.amount, interval)
    # So little divergence needs more digits.
    return f"{interval[0]:.6f} to {interval[1]:.6f}" if low == high else f"{low} to {high}"


def kl_difference(first: Score, second: Score) -> Estimate | None:
    """The second KL divergence minus the first, prompt by prompt; None where that is not known.

    Args:
        first: Of some prompts.
        second: Of the same prompts, in the same mode.
    """
    one, other = first.divergence, second.divergence
    if not one.by_prompt or len(one.by_prompt) != len(other.by_prompt) or one.mode != other.mode:
        return None
    differences = [after - before for before, after in zip(one.by_prompt, other.by_prompt, strict=True)]
    return Estimate(second.value - first.value, *resampled_interval(differences))


def is_told_apart(first: Scores, second: Scores) -> bool | None:
    """Whether two edits differ in some number by more than noise explains; None where no spread is known.

    KL is compared in pairs by prompt. Of answers only counts are kept, so these are compared as if the prompts were
    others, which calls fewer differences real.
    """
    kl = kl_difference(first.kl, second.kl)
    if kl is not None and not kl.low <= 0 <= kl.high:
        return True
    answers = list(zip(first.of_answers, second.of_answers, strict=True))
    counted = [(one, other) for one, other in answers if one.counts_answers and one.n == other.n]
    for one, other in counted:
        low, high = difference_interval(round(one.value), round(other.value), one.n)
        if not low <= 0 <= high:
            return True
    return None if kl is None or len(counted) < len(answers) else False


def not_told_apart(records: Sequence[TrialRecord], other: TrialRecord) -> list[TrialRecord]:
    """The other trials that noise does not tell apart from one."""
    return [
        record
        for record in records
        if record.number != other.number and is_told_apart(other.measured, record.measured) is False
    ]


def sentence(records: Sequence[TrialRecord], other: TrialRecord) -> str:
    """Which trials noise does not tell apart from one; empty without any."""
    same = [str(record.shown) for record in not_told_apart(records, other)]
    if not same:
        return ""
    return f"Not told apart from trial {other.shown}: {joined(same)}; {EXPLAINED}."


EXPLAINED = "so small a difference, prompt by prompt, may be chance (95 %)"
"""What is meant by trials that are not told apart."""


def difference_sentence(first: tuple[str, Score], second: tuple[str, Score]) -> str:
    """By how much the KL divergences of two edits differ, prompt by prompt; empty where that is not known.

    Args:
        first: Name and KL score.
        second: Likewise.
    """
    difference = kl_difference(first[1], second[1])
    if difference is None:
        return ""
    interval = f"{difference.value:+.4f} nats (95 %: {difference.low:+.4f} to {difference.high:+.4f})"
    beside = f"KL of {second[0]} beside {first[0]}, prompt by prompt: {interval}"
    if not difference.low <= 0 <= difference.high:
        return f"{beside}."
    if difference.low == difference.high:
        return f"{beside}, the same on every prompt."
    least = detectable_change(difference.low, difference.high)
    return f"{beside}: not told apart; one of {least:.4f} would have been, with a power of 80 %."
