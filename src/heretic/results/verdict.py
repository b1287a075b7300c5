"""What came out, in words: what held-out prompts say of an edit, and where the search said otherwise. Pure."""

from heretic.results.held_out import HeldOut, HeldOutBehavior
from heretic.results.intervals import detectable_share
from heretic.results.pairs import interval_text
from heretic.results.score import Score, Scores
from heretic.results.words import joined, kept_changed, number, place, plural, with_interval, would_have_changed


def verdict(held_out: HeldOut, searched: Scores | None) -> list[str]:
    """A sentence a behaviour, one on each set of answers that have to stay, on how much else changed, and on the gap.

    Args:
        held_out: Of the longest answers.
        searched: What the search saw of the same edit, in the order of the behaviours; None where that is not known.
    """
    scores: list[Score | None] = list(searched.behaviors) if searched is not None else []
    scores += [None] * (len(held_out.behaviors) - len(scores))
    sentences = [_of_behavior(behavior, score) for behavior, score in zip(held_out.behaviors, scores, strict=False)]
    sentences += map(_of_kept, held_out.kept)
    divergences = [f"{score.amount()} nats ({_where(score)})" for score in held_out.kl if not score.divergence.is_first]
    if divergences:
        sentences.append(f"Everything else changed by a KL divergence of {divergences[-1]}; 0 is nothing at all.")
    return [*sentences, *([] if searched is None else gap(held_out, searched))]


def gap(held_out: HeldOut, searched: Scores) -> list[str]:
    """What the search saw and what held-out prompts show of the same measures, in a sentence; none without any.

    The chosen trial is the best of many on the search's prompts, so that its numbers there flatter it.
    """
    seen, shown = [], []
    for behavior, score in zip(held_out.behaviors, searched.behaviors, strict=False):
        alike = next((at for at in behavior.at if at.tokens == score.answers.tokens), None)
        if alike is not None and score.is_known:
            seen.append(f"{behavior.label} {score.amount()}")
            shown.append(f"{behavior.label} {number(behavior, alike.edited.value)}")
    for kl in held_out.kl:
        if (kl.divergence.mode, kl.divergence.tokens) == (searched.kl.divergence.mode, searched.kl.divergence.tokens):
            seen.append(f"KL {searched.kl.amount()}")
            shown.append(f"KL {kl.amount()}")
    return [f"Measured alike, the search saw {joined(seen)}; held out: {joined(shown)}."] if seen else []


def _where(kl: Score) -> str:
    interval = interval_text(kl)
    return f"{place(kl)}; 95 %: {interval}" if interval else place(kl)


def _of_kept(part: HeldOutBehavior) -> str:
    """How many of the answers that have to stay changed; where none did, how many would have had to."""
    last = part.at[-1]
    stayed = number(part, last.edited.value) + with_interval("", last.edited, part.unit)
    whole, changed = round(last.base.value), round(last.base.value - last.edited.value)
    sentence = f"{part.label.capitalize()}: {kept_changed(changed, whole)}, {stayed} stayed"
    if changed == 0 < whole:
        least = 100 * detectable_share(whole)
        return f"{sentence}; a change of {least:.1f} % of such answers would have been seen, with a power of 80 %."
    return f"{sentence}."


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
    shown = f"held out it is {before} -> {after}{unit} on {behavior.n}"
    return f"{name.capitalize()}: {seen}{shown}: not confirmed{_missed(behavior)}."


def _missed(behavior: HeldOutBehavior) -> str:
    change = would_have_changed(behavior)
    return f"; a change of {change} would have been, with a power of 80 %" if change else ""
