"""What came out, in words: what held-out prompts say of an edit, and where the search said otherwise. Pure."""

from heretic.results.held_out import HeldOut, HeldOutBehavior
from heretic.results.score import Score, Scores
from heretic.results.words import number, place, plural, with_interval


def verdict(held_out: HeldOut, searched: Scores | None) -> list[str]:
    """A sentence a behaviour, one on each set of answers that have to stay, and one on how much else changed.

    Args:
        held_out: Of the longest answers.
        searched: What the search saw of the same edit, in the order of the behaviours; None where that is not known.
    """
    scores: list[Score | None] = list(searched.behaviors) if searched is not None else []
    scores += [None] * (len(held_out.behaviors) - len(scores))
    sentences = [_of_behavior(behavior, score) for behavior, score in zip(held_out.behaviors, scores, strict=False)]
    for part in held_out.kept:
        last = part.at[-1]
        stayed = number(part, last.edited.value) + with_interval("", last.edited, part.unit)
        sentences.append(f"{part.label.capitalize()}: {stayed} of the original model's answers stayed.")
    divergences = [f"{score.amount()} nats ({place(score)})" for score in held_out.kl if not score.divergence.is_first]
    if divergences:
        sentences.append(f"Everything else changed by a KL divergence of {divergences[-1]}; 0 is nothing at all.")
    return sentences


def is_confirmed(behavior: HeldOutBehavior) -> bool:
    """Whether the same prompts were answered otherwise than by chance; without pairs, whether the amounts differ."""
    last, change = behavior.at[-1], behavior.change
    if change is None:
        return last.base.value != last.edited.value
    return not change.low <= 0 <= change.high


def _of_behavior(behavior: HeldOutBehavior, searched: Score | None) -> str:
    last = behavior.at[-1]
    name = behavior.behavior if behavior.unit else behavior.label
    before, after = number(behavior, last.base.value), number(behavior, last.edited.value)
    unit = f" {behavior.unit}" if behavior.unit else ""
    if is_confirmed(behavior):
        moved = "fell" if last.edited.value < last.base.value else "rose"
        interval = with_interval("", last.edited, behavior.unit)
        return f"{name.capitalize()} {moved} from {before} to {after}{unit}{interval}, on prompts that chose nothing."
    seen = ""
    if searched is not None and searched.is_known:
        original = searched.amount(searched.baseline)
        seen = f"the search saw {original} -> {searched.amount()} on {plural(searched.n, 'prompt')}; "
    return f"{name.capitalize()}: {seen}held out it is {before} -> {after}{unit} on {behavior.n}: not confirmed."
